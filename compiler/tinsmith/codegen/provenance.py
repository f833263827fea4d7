"""Where the numbers of a project come from: digests of the files it was compiled from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..frontend.model_file import ModelSource, load_model
from ..quant.samples import Samples
from .report_model import SourceReport


def provenance(source: ModelSource, calibrate: Samples | None) -> SourceReport:
    """Of a model file or its bytes, and of the file of samples that quantised it.

    Weights that lie in files of their own are not in `sha256`; `Report.model_hash` covers them.
    """
    file, data = "", None
    if isinstance(source, str | Path):
        file, data = Path(source).name, Path(source).read_bytes()
    elif isinstance(source, bytes):
        data = source
    else:
        data = source.SerializeToString(deterministic=True)
    model = load_model(source)
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    samples = None
    if isinstance(calibrate, str | Path):
        samples = _sha256(Path(calibrate).read_bytes())
    return SourceReport(file, _sha256(data), producer, samples)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
