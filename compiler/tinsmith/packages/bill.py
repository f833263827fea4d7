"""The bill of materials of a package: what is in it, under which licence, made from what.

CycloneDX 1.6 as JSON, which is plain data; the tests validate it by the published schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .. import __version__
from .contents import Contents, File

LICENCE = "Apache-2.0"


def bill_of_materials(contents: Contents, version: str) -> str:
    """The bill as JSON. The same package gives the same bytes: no time, no serial number.

    Three parts: the generated code, the runtime's files, and the weights as a machine-learning
    model, with the digests of what they were made from. The licence of the weights is their
    author's, and not known here.
    """
    report = contents.report
    model = {
        "bom-ref": "model",
        "type": "machine-learning-model",
        "name": report.model,
        "version": report.model_hash[:12],
        "description": f"{report.dtype} network of {report.macs} MACs",
        "hashes": _hashes(report.model_hash),
        "properties": _properties(
            {"licence": "NOASSERTION", "weights_bytes": str(report.weights_bytes)}
            | _origin(contents)
        ),
    }
    files = {**contents.headers, **contents.sources}
    runtime = {
        "bom-ref": "runtime",
        "type": "library",
        "name": "tinsmith-runtime",
        "version": __version__,
        "licenses": _licences(),
        "components": [_file(n, f) for n, f in files.items() if f.runtime],
    }
    code = {
        "bom-ref": "code",
        "type": "library",
        "name": contents.name,
        "version": version,
        "licenses": _licences(),
        "properties": _properties({"board": report.board, "target": report.target}),
        "components": [_file(n, f) for n, f in files.items() if not f.runtime],
    }
    tool = {"type": "application", "name": "tinsmith", "version": __version__}
    bill: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"tools": {"components": [tool]}, "component": code},
        "components": [model, runtime],
        "dependencies": [{"ref": "code", "dependsOn": ["model", "runtime"]}],
    }
    return json.dumps(bill, indent=2) + "\n"


def _origin(contents: Contents) -> dict[str, str]:
    source = contents.report.source
    if source is None:
        return {}
    facts = {
        "file": source.file,
        "sha256": source.sha256,
        "producer": source.producer,
        "calibration_sha256": source.calibration_sha256,
    }
    return {f"source:{key}": value for key, value in facts.items() if value}


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": f"tinsmith:{key}", "value": value} for key, value in values.items()]


def _licences() -> list[dict[str, Any]]:
    return [{"license": {"id": LICENCE}}]


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _file(name: str, file: File) -> dict[str, Any]:
    digest = hashlib.sha256(file.data).hexdigest()
    return {"bom-ref": f"file:{name}", "type": "file", "name": name, "hashes": _hashes(digest)}
