"""Secrets of protected projects: where they are, and that they are nowhere else."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.schedule import schedule
from tinsmith.ir.graph import Graph
from tinsmith.machine.board import load_board
from tinsmith.pass_manager import PassContext
from tinsmith.runner.run import run
from tinsmith.trust import keystream
from tinsmith.trust.manifest import NONSECURE_IMAGE, SECURE_IMAGE

from .trust_projects import BOARD, HOST, MODES, divided, key_of, protected, samples


def spellings(secret: bytes) -> list[bytes]:
    """A byte string as a file may hold it: as it is, its words the other way, in three texts."""
    words = np.frombuffer(secret, ">u4").astype("<u4").tobytes()
    listed = ", ".join(str(b) for b in secret), ", ".join(f"0x{b:02x}" for b in secret)
    texts = [secret.hex(), secret.hex().upper(), base64.b64encode(secret).decode(), *listed]
    return [secret, words, *(t.encode() for t in texts)]


def numbers(text: bytes) -> bytes:
    """Every integer of a C or .tin text, one after the other, as int16, and the small as int8."""
    found = [int(n) for n in re.findall(rb"(?<![\w.])-?\d{1,5}(?![\w.])", text)]
    words = np.array([n for n in found if -32768 <= n < 32768], np.int16).tobytes()
    return words + b"|" + np.array([n for n in found if -128 <= n < 128], np.int8).tobytes()


def files(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            if path.is_file():
                yield path, path.read_bytes()


def base64_arrays(data: bytes) -> bytes:
    """What the constants of a .tin file decode to."""
    found = re.findall(rb'base64"([A-Za-z0-9+/=]*)"', data)
    return b"|".join(base64.b64decode(text) for text in found)


def tables(orders: list[np.ndarray]) -> list[bytes]:
    """Permutations and their inverses as arrays of every width, and as int16 for texts."""
    both = [o for order in orders for o in (order, np.argsort(order))]
    return [o.astype(t).tobytes() for o in both for t in (np.int8, np.int16, np.int32)]


def test_a_device_has_no_withheld_weights_in_its_own_world(tmp_path: Path) -> None:
    """As the board's kernels pack them."""
    folder = tmp_path / "project"
    protected(folder, BOARD, "withhold")
    own = dict(files(folder / "nonsecure", folder / NONSECURE_IMAGE))
    withheld, known = (
        packed_weights(graphs, BOARD)
        for graphs in (divided("withhold", "d1").secure, (divided("withhold", "d1").nonsecure,))
    )
    assert len(withheld) > 10
    assert all(part in own[folder / NONSECURE_IMAGE] for part in known)
    assert all(part in (folder / SECURE_IMAGE).read_bytes() for part in withheld)
    for path, data in own.items():
        for form in (data, numbers(data), base64_arrays(data)):
            assert not any(part in form for part in withheld), path


@pytest.mark.parametrize("mode", MODES)
def test_secrets_are_only_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mode: str
) -> None:
    orders: list[np.ndarray] = []
    draw = keystream.permutation

    def recorded(key: bytes, label: str, size: int) -> np.ndarray:
        orders.append(draw(key, label, size))
        return orders[-1]

    monkeypatch.setattr(keystream, "permutation", recorded)
    folder, temporary = tmp_path / "project", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with Watch(temporary) as seen:
        protected(folder, HOST, mode)
        run(folder, samples(2))
    printed = "".join(capfd.readouterr()).encode()
    assert orders
    for spelling in spellings(key_of("d1")):
        for path, data in files(folder):
            assert spelling not in data, path
        assert all(spelling not in data for data in (printed, *seen.found.values()))
    public = dict(files(folder / "nonsecure", folder / NONSECURE_IMAGE, *folder.glob("*.*")))
    plain = {folder / "graph.tin", folder / "sample.npz"}
    withheld = [] if mode == "permute" else weights_of(divided(mode, "d1").secure)
    secrets = tables(orders) + (withheld if mode == "withhold" else [])
    for path, data in public.items():
        if path not in plain:
            for form in (data, numbers(data), base64_arrays(data)):
                assert not any(secret in form for secret in secrets), path
    for name, data in seen.found.items():
        assert not any(s in f for s in secrets for f in (data, numbers(data))), name
    assert holds(folder / "secure", tables(orders)) or mode == "withhold"
    assert not withheld or holds(folder / "secure", withheld)


def holds(folder: Path, secrets: list[bytes]) -> bool:
    """Whether the search finds what is there: it could not fail otherwise."""
    return any(s in f for _, d in files(folder) for s in secrets for f in (d, base64_arrays(d)))


def weights_of(graphs: tuple[Graph, ...]) -> list[bytes]:
    """Rows of the filters of the secure world, as bytes and as the int16 of texts."""
    filters = [
        graph.initializers[node.inputs[1]]
        for graph in graphs
        for node in graph.nodes
        if node.op.name in ("conv2d", "dense")
    ]
    rows = [row for f in filters for row in f.reshape(len(f), -1)]
    return [row.astype(t).tobytes() for row in rows for t in (np.int8, np.int16)]


def packed_weights(graphs: Sequence[Graph], board: str) -> list[bytes]:
    """The filters as they lie in an image, cut into pieces of 24 bytes."""
    pieces: list[bytes] = []
    for graph in graphs:
        program = schedule(graph, load_board(board), None, False, PassContext())
        for call in program.calls:
            if call.node.op.name in ("conv2d", "dense"):
                data = max((c.array for c in call.constants.values()), key=np.size).tobytes()
                pieces += [data[i : i + 24] for i in range(0, len(data) - 23, 24)]
    return [piece for piece in pieces if len(set(piece)) > 12]


class Watch:
    """Reads what appears in a folder, as often as it can, and what is left there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, bytes] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._read()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            self._read()

    def _read(self) -> None:
        for folder, _, names in os.walk(self.folder):  # passes over what is gone
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(OSError):
                    self.found[f"{name} {path.stat().st_size}"] = path.read_bytes()
