"""What a protected model learns comes back authentic or not at all: the codes and their key."""

from __future__ import annotations

import hashlib
import hmac
import struct
import subprocess
from pathlib import Path

import numpy as np

from tinsmith import paths
from tinsmith.trust import keys
from tinsmith.trust.updates import STATE, tag_of

SECURE = paths.RUNTIME_C / "secure"
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")


def test_hmac_is_that_of_its_standard(tmp_path: Path) -> None:
    """RFC 4231, test cases 1 and 2 (a short key is filled up with zeros), and lengths around the
    block's; a code that differs in any one bit is another one."""
    source = Path(__file__).resolve().parent / "c" / "secure_mac.c"
    files = [source, SECURE / "hmac.c", SECURE / "sha256.c"]
    sanitize = "-fsanitize=address,undefined"
    program = tmp_path / "mac"
    subprocess.run(["gcc", *FLAGS, sanitize, f"-I{SECURE}", *files, "-o", program], check=True)
    rng = np.random.default_rng(0)
    cases = [(b"\x0b" * 20, b"Hi There"), (b"Jefe", b"what do ya want for nothing?")]
    cases += [(rng.bytes(32), rng.bytes(n)) for n in (0, 1, 55, 56, 63, 64, 65, 128, 4000)]
    said: list[str] = []
    for key, data in cases:
        given = key.ljust(32, b"\0") + data
        done = subprocess.run([program], input=given, capture_output=True, check=True)
        code, seen, same = done.stdout.decode().split()
        assert (code, seen, same) == (hmac.digest(key, data, "sha256").hex(), "256", "0")
        said.append(code)
    assert said[0] == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert said[1] == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


def test_the_key_of_updates_is_one_of_its_own() -> None:
    """HKDF-SHA256 (RFC 5869), by hand; of a device, a model and this purpose alone."""
    secret, model = bytes(range(32)), "ab" * 32
    found = keys.device_key(secret, model, "sensor-17", keys.UPDATES)
    extracted = hmac.digest(bytes.fromhex(model), secret, "sha256")
    info = b"tinsmith trust 1\0updates\0sensor-17"
    assert found == hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()
    others = [
        keys.device_key(secret, model, "sensor-18", keys.UPDATES),
        keys.device_key(secret, "ac" * 32, "sensor-17", keys.UPDATES),
        keys.device_key(secret, model, "sensor-17", keys.permutations_of("withhold")),
    ]
    assert found not in others


def test_counters_of_one_boot(tmp_path: Path) -> None:
    """A state older than the one that is relied on, and a delta that is not newer, are refused."""
    key, base, state = bytes(range(32)), bytes(range(50, 82)), bytes(range(64))
    source = Path(__file__).resolve().parent / "c" / "secure_update.c"
    program = tmp_path / "update"
    sources = [source, *(SECURE / name for name in ("update.c", "hmac.c", "sha256.c"))]
    include = [f"-I{SECURE}", f"-I{paths.RUNTIME_C / 'include'}"]
    sanitize = "-fsanitize=address,undefined"
    subprocess.run(["gcc", *FLAGS, sanitize, *include, *sources, "-o", program], check=True)
    top = 2**32 - 2
    steps = [
        ("tag", 5, 4, 0, 0),  # 4 was in force: the floor
        ("state", 3, 0, 0, 1),
        ("state", 4, 0, 0, 0),  # the block before
        ("state", 5, 0, 0, 0),
        ("state", 4, 0, 0, 1),
        ("tag", 4, 0, 0, 1),
        ("delta", 0, 0, 2, 0),
        ("delta", 0, 0, 2, 1),
        ("delta", 0, 0, 1, 1),
        ("state", 6, 0, 9, 0),  # it took a delta of that sequence before
        ("delta", 0, 0, 9, 1),
        ("delta", 0, 0, 10, 0),
        ("state", 6 + 2**31, 0, 0, 1),
        ("state", 6 + 2**30, 0, 0, 0),
        ("state", 6 + 2**31, 0, 0, 0),
        ("state", top, 0, 0, 0),
        ("state", 1, 0, 0, 0),  # they wrap
        ("state", top, 0, 0, 1),
        ("state", 0, 0, 0, 1),
    ]
    given = b""
    for kind, counter, in_force, sequence, _ in steps:
        number = {"tag": 1, "state": 2, "delta": 3}[kind]
        tag = tag_of(key, base, max(number, STATE), counter, state, sequence)
        given += struct.pack("<3I", number, counter, in_force) + tag
    done = subprocess.run([program], input=given, capture_output=True, check=True)
    assert done.stdout.decode().split() == [str(refused) for *_, refused in steps]
