"""Secrets, device keys and the signed manifest of a protected project."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tinsmith.errors import BadInput, CompileError, NotAuthentic
from tinsmith.trust import keys
from tinsmith.trust.manifest import (
    FILE,
    NONSECURE_IMAGE,
    SECURE_IMAGE,
    Manifest,
    check_manifest,
    image_hash,
    read_manifest,
    write_manifest,
)

MODEL_HASH = hashlib.sha256(b"a model").hexdigest()
SECRET = bytes(range(48))


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block, written out."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_device_key_is_hkdf_sha256() -> None:
    info = b"tinsmith trust 1\0permutation permute\0device-7"
    purpose = keys.permutations_of("permute")
    expected = _hkdf(SECRET, bytes.fromhex(MODEL_HASH), info)
    assert keys.device_key(SECRET, MODEL_HASH, "device-7", purpose) == expected


def test_the_written_out_hkdf_is_that_of_the_rfc() -> None:
    """RFC 5869, test case 1, its first block."""
    info = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    block = _hkdf(b"\x0b" * 22, bytes(range(13)), info)
    assert block.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_every_part_changes_the_key() -> None:
    other = hashlib.sha256(b"another").hexdigest()
    found = {
        keys.device_key(SECRET, MODEL_HASH, "a", "purpose"),
        keys.device_key(SECRET, MODEL_HASH, "b", "purpose"),
        keys.device_key(SECRET, other, "a", "purpose"),
        keys.device_key(SECRET[:-1], MODEL_HASH, "a", "purpose"),
        keys.device_key(SECRET, MODEL_HASH, "a", "another"),
    }
    assert len(found) == 5
    assert {len(key) for key in found} == {keys.KEY_BYTES}


@pytest.mark.parametrize("device", ["", "a b", "a\0b", "ä", "x" * 65, "a\n"])
def test_a_device_id_is_plain_text(device: str) -> None:
    with pytest.raises(BadInput, match="device id"):
        keys.device_key(SECRET, MODEL_HASH, device, "purpose")


def test_new_secret_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    keys.new_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = keys.read_secret(path)
    assert len(secret) == keys.KEY_BYTES
    with pytest.raises(CompileError, match="exists already"):
        keys.new_secret(path)
    assert path.read_bytes() == secret


def test_secrets_differ(tmp_path: Path) -> None:
    for name in ("a", "b"):
        keys.new_secret(tmp_path / name)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_a_short_or_missing_secret_is_refused(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(bytes(31))
    with pytest.raises(BadInput, match="31 bytes"):
        keys.read_secret(short)
    with pytest.raises(BadInput, match="cannot read"):
        keys.read_secret(tmp_path / "none")


def test_signing_keys_come_in_pairs(tmp_path: Path) -> None:
    private = tmp_path / "vendor.pem"
    public = keys.new_signing_key(private)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    pair = keys.read_signing_key(private).public_key()
    assert pair.public_bytes_raw() == keys.read_public_key(public).public_bytes_raw()
    with pytest.raises(CompileError, match="exists already"):
        keys.new_signing_key(private)


def test_a_public_key_alone_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "vendor.pub.pem").write_text("of another pair")
    with pytest.raises(CompileError, match="exists already"):
        keys.new_signing_key(tmp_path / "vendor.pem")
    assert not (tmp_path / "vendor.pem").exists()


def test_other_files_are_no_keys(tmp_path: Path) -> None:
    private = tmp_path / "vendor.pem"
    public = keys.new_signing_key(private)
    for read, path in ((keys.read_signing_key, public), (keys.read_public_key, private)):
        with pytest.raises(BadInput, match="is not a"):
            read(path)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small programs where a protected project has its images."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "build").mkdir()
    for name, value in ((NONSECURE_IMAGE, 1), (SECURE_IMAGE, 2)):
        source = folder / "a.c"
        source.write_text(f'const char text[] = "image {value}"; int main(void) {{ return 0; }}\n')
        subprocess.run(["gcc", "-g", source, "-o", folder / name], check=True)
    return folder


@pytest.fixture
def project(images: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(images, folder)
    _sign(folder, tmp_path / "vendor.pem")
    return folder


def _sign(folder: Path, private: Path) -> None:
    if not private.exists():
        keys.new_signing_key(private)
    manifest = Manifest(
        device="d1",
        model="m",
        model_hash=MODEL_HASH,
        board="host",
        mode="withhold",
        simulated=True,
        nonsecure_sha256=image_hash(folder / NONSECURE_IMAGE),
        secure_sha256=image_hash(folder / SECURE_IMAGE),
    )
    write_manifest(folder, manifest.signed(keys.read_signing_key(private)))


def test_what_was_signed_is_accepted(project: Path, tmp_path: Path) -> None:
    public = keys.read_public_key(tmp_path / "vendor.pub.pem")
    assert check_manifest(project, public).device == "d1"


def test_what_is_not_loaded_does_not_count(project: Path) -> None:
    with (project / SECURE_IMAGE).open("ab") as file:
        file.write(b"behind all segments")
    check_manifest(project)


@pytest.mark.parametrize("name", [NONSECURE_IMAGE, SECURE_IMAGE])
def test_a_changed_image_is_refused(project: Path, name: str) -> None:
    path = project / name
    path.write_bytes(path.read_bytes().replace(b"image ", b"image_"))
    with pytest.raises(NotAuthentic, match=f"{path.name} is not the image"):
        check_manifest(project)


def test_an_entry_point_is_part_of_an_image(project: Path) -> None:
    data = bytearray((project / SECURE_IMAGE).read_bytes())
    data[0x18] ^= 4  # e_entry of ELF64
    (project / SECURE_IMAGE).write_bytes(data)
    with pytest.raises(NotAuthentic, match=r"secure\.elf is not the image"):
        check_manifest(project)


@pytest.mark.parametrize("field", [f for f in Manifest.__struct_fields__ if f != "format"])
def test_a_changed_field_is_refused(project: Path, field: str) -> None:
    manifest = read_manifest(project)
    old = getattr(manifest, field)
    new = not old if isinstance(old, bool) else f"{'0' if old[0] != '0' else '1'}{old[1:]}"
    write_manifest(project, msgspec.structs.replace(manifest, **{field: new}))
    with pytest.raises(NotAuthentic, match="was changed after it was signed"):
        check_manifest(project)


def test_the_signature_of_another_is_refused(project: Path, tmp_path: Path) -> None:
    _sign(project, tmp_path / "attacker.pem")
    check_manifest(project)  # consistent in itself
    with pytest.raises(NotAuthentic, match="signed by another key"):
        check_manifest(project, keys.read_public_key(tmp_path / "vendor.pub.pem"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / FILE).unlink(),
        lambda folder: (folder / FILE).write_text("{}"),
        lambda folder: (folder / FILE).write_text("no json"),
        lambda folder: (folder / SECURE_IMAGE).unlink(),
        lambda folder: write_manifest(
            folder, msgspec.structs.replace(read_manifest(folder), format=2)
        ),
    ],
    ids=["no manifest", "no fields", "no json", "no image", "another format"],
)
def test_what_is_missing_is_named(project: Path, damage: Callable[[Path], object]) -> None:
    damage(project)
    with pytest.raises(NotAuthentic) as caught:
        check_manifest(project)
    assert str(project) in caught.value.message


def test_a_file_that_is_no_elf(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("text")
    with pytest.raises(CompileError, match="cannot be read"):
        image_hash(tmp_path / "x")
