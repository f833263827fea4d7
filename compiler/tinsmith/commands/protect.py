"""The commands that make the images of one device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ..codegen.report import read_report
from ..codegen.report_text import trust_lines
from ..errors import BadInput, CompileError
from ..trust import keys
from ..trust.manifest import check_manifest
from ..trust.project import protect_project
from ..trust.seal import seal_image
from ..trust.updates import authorize_delta
from . import show
from .console import out, print_json, progress, reported
from .options import AsJson, Project, Quota, TrustCut, TrustMode, VerifyWith

_FILE = "FILE"
Sign = Annotated[
    Path | None,
    typer.Option("--sign", metavar="KEY.pem", help="Ed25519; by default a key of the moment"),
]


@reported
def protect(
    project: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="what `tinsmith compile` made", show_default=False),
    ] = None,
    secret: Annotated[
        Path | None,
        typer.Option("--secret", metavar=_FILE, help="the root secret, 32 bytes or more"),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="ID", help="for which")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT", help="to write into")
    ] = None,
    sign: Sign = None,
    trust: TrustMode = None,
    cut: TrustCut = None,
    quota: Quota = None,
    release: Annotated[
        bool, typer.Option("--release", help="no semihosting in the secure image, which resets")
    ] = False,
    new_secret: Annotated[
        Path | None, typer.Option("--new-secret", metavar=_FILE, help="make a root secret")
    ] = None,
    new_signing_key: Annotated[
        Path | None,
        typer.Option("--new-signing-key", metavar="KEY.pem", help="make it, and KEY.pub.pem"),
    ] = None,
    json: AsJson = False,
) -> None:
    """Make the pair of images that runs on one device: `protect DIR --secret F --device ID -o OUT`.

    The mode, the cut and the quota are those of DIR where the options do not say others.
    """
    made: list[str] = []
    if new_secret is not None:
        keys.new_secret(new_secret)
        made.append(f"a root secret in {new_secret}: whoever has it can make every device's keys")
    if new_signing_key is not None:
        public = keys.new_signing_key(new_signing_key)
        made.append(f"a signing key in {new_signing_key}, its public key in {public}")
    for text in made:
        out().print(text, markup=False)
    if project is None and made:
        return
    given = {"DIR": project, "--secret": secret, "--device": device, "-o": output}
    missing = [name for name, value in given.items() if value is None]
    if project is None or secret is None or device is None or output is None:
        raise CompileError(
            f"protect needs {', '.join(missing)}",
            expected="tinsmith protect DIR --secret root.key --device ID -o OUT",
            hint="`tinsmith protect --new-secret FILE` makes a root secret",
        )
    with progress(f"protecting {project} for {device}") as step:
        protected = protect_project(
            project,
            output,
            secret=secret,
            device=device,
            sign=sign,
            mode=trust,
            cut=cut,
            quota=quota,
            release=release,
            progress=step,
        )
    if json:
        print_json(show.report_data(protected))
        return
    show.compiled(protected, output)
    show.notes(protected.notes, out())


@reported
def seal(
    project: Project,
    image: Annotated[
        Path, typer.Option("--image", metavar="APP.elf", help="the product's non-secure program")
    ],
    sign: Sign = None,
    verify_with: VerifyWith = None,
    json: AsJson = False,
) -> None:
    """Bind a protected project to the program of a product, which it then starts and no other."""
    if verify_with is not None:
        check_manifest(project, keys.read_public_key(verify_with))
    manifest = seal_image(project, image, sign=sign)
    if json:
        print_json(msgspec.to_builtins(manifest))
        return
    out().print(f"{project} starts {image}: SHA-256 {manifest.nonsecure_sha256}", markup=False)


@reported
def authorize(
    project: Project,
    delta: Annotated[
        Path, typer.Option("--delta", metavar="F.delta", help="what DIR's own model has learnt")
    ],
    secret: Annotated[Path, typer.Option("--secret", metavar=_FILE, help="the root secret")],
    device: Annotated[str, typer.Option("--device", metavar="ID", help="for which")],
    sequence: Annotated[
        int, typer.Option("--sequence", help="more than that of every delta it was given")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="to write")],
    json: AsJson = False,
) -> None:
    """Make a delta one that the device DIR was protected for takes, once."""
    try:
        given = delta.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {delta}: {error.strerror}") from error
    data = authorize_delta(project, given, secret=secret, device=device, sequence=sequence)
    try:
        output.write_bytes(data)
    except OSError as error:
        raise CompileError(f"cannot write {output}: {error.strerror}") from error
    if json:
        print_json({"device": device, "sequence": sequence, "bytes": len(data)})
        return
    out().print(f"{output}: {len(data):,} B for {device}, sequence {sequence}", markup=False)


@reported
def images(project: Project, verify_with: VerifyWith = None, json: AsJson = False) -> None:
    """Verify the pair of a protected project before it is flashed: the manifest's signature, both
    images; and say what it is and what its board needs."""
    public = None if verify_with is None else keys.read_public_key(verify_with)
    manifest = check_manifest(project, public)
    trust = read_report(project).trust
    needs = trust.requires if trust is not None else ()
    if json:
        print_json({**msgspec.to_builtins(manifest), "requires": list(needs)})
        return
    known = "by that key" if public else f"by {manifest.public_key[:16]}…, which it names itself"
    out().print(f"{manifest.model} for {manifest.device} on {manifest.board}: signed {known}")
    for line in trust_lines(trust) if trust is not None else ():
        out().print(line, markup=False)
