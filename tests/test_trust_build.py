"""Protected projects: both images compiled, run, compared bit for bit, exchanged, searched."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tinsmith.codegen.report import read_report
from tinsmith.errors import BadInput, CompileError, NotAuthentic, Refused, VerificationFailed
from tinsmith.ir.graph import Graph, Stage
from tinsmith.ir.interpret import run_batch
from tinsmith.machine.board import load_board
from tinsmith.machine.trust_zone import load_trust_zone, non_secure_board
from tinsmith.pass_manager import PassContext
from tinsmith.quant.batch import run_many
from tinsmith.runner import compare
from tinsmith.runner.bench import bench, profile
from tinsmith.runner.compare import verify
from tinsmith.runner.execute import run_samples
from tinsmith.runner.profile import profile_layers
from tinsmith.runner.project import open_project
from tinsmith.runner.protocol import Sample
from tinsmith.runner.run import run
from tinsmith.toolchain.compile_c import build
from tinsmith.trust import keys
from tinsmith.trust.manifest import (
    NONSECURE_IMAGE,
    SECURE_IMAGE,
    Manifest,
    check_manifest,
    image_hash,
    read_manifest,
    write_manifest,
)
from tinsmith.trust.partition import join
from tinsmith.trust.project import Device, Protection, write_protected
from tinsmith.trust.seal import seal_image

from .int8_nets import Int8Net
from .trust_projects import (
    BOARD,
    HOST,
    MODES,
    Projects,
    divided,
    network,
    oracle,
    protected,
    samples,
)

COMMITTED = [(HOST, mode) for mode in MODES] + [(BOARD, "withhold"), (BOARD, "coreguard-otp")]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Projects:
    return Projects(tmp_path_factory.mktemp("protected"))


@pytest.mark.parametrize(("board", "mode"), COMMITTED)
def test_authorised_outputs_are_those_of_the_plain_model(
    projects: Projects, board: str, mode: str
) -> None:
    folder, x = projects.get(board, mode), samples(24)
    result = run(folder, x)
    assert np.array_equal(result.device_outputs[0], oracle(x))
    assert len(np.unique(result.device_outputs[0])) > 5
    assert verify(folder).ok


def test_a_difference_is_told_without_a_node(
    projects: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = projects.get(HOST, "withhold")

    def wrong(graph: Graph, given: list[np.ndarray]) -> list[np.ndarray]:
        return [~run_many(graph, given)[0]]

    monkeypatch.setattr(compare, "run_many", wrong)
    result = verify(folder)
    assert result.mismatch is not None
    assert result.mismatch.node is None
    with pytest.raises(VerificationFailed) as caught:
        result.check()
    assert "only the outputs of a protected project" in str(caught.value.hint)


@pytest.mark.parametrize("mode", MODES)
def test_the_report_says_how_it_is_divided(projects: Projects, mode: str) -> None:
    report = read_report(projects.get(HOST, mode))
    trust, cut = report.trust, divided(mode, "d1").cut
    assert trust is not None
    assert (trust.mode, trust.device, trust.simulated) == (mode, "d1", True)
    assert (trust.cut, trust.bridge, trust.classes) == (cut.value, cut.bridge, cut.classes)
    assert report.gateway_calls == (2 if mode == "coreguard-otp" else 1)
    assert report.secure_flash_bytes
    assert report.secure_ram_bytes
    assert report.macs == sum(n.op.macs(n) for n in network().nodes)
    text = (projects.get(HOST, mode) / "report.txt").read_text()
    assert "simulated, not protection" in text
    assert f"protected: {mode}, for device d1" in text


def test_a_board_is_no_simulation(projects: Projects) -> None:
    folder = projects.get(BOARD, "withhold")
    report = read_report(folder)
    assert report.trust is not None
    assert not report.trust.simulated
    assert not read_manifest(folder).simulated
    assert "simulated" not in (folder / "report.txt").read_text()


@pytest.mark.parametrize(("board", "mode"), [(HOST, "withhold"), (BOARD, "coreguard-otp")])
def test_the_quota_ends_authorisation(tmp_path: Path, board: str, mode: str) -> None:
    protected(tmp_path, board, mode, quota=2)
    project, x = open_project(tmp_path), samples(4)
    types = [[v.type for v in network().outputs]]
    results = run_samples(
        project.elf(), project.board, types, [Sample((s,)) for s in x], processes=1
    )
    assert [r.status for r in results] == [0, 0, 8, 8]
    assert np.array_equal([r.outputs[0] for r in results[:2]], oracle(x[:2]))
    with pytest.raises(Refused, match="sample 2: the secure world refused"):
        run(tmp_path, x, processes=1)


def sign(folder: Path) -> None:
    """As somebody else would: a manifest that fits what is there."""
    found = read_manifest(folder)
    fields = {f: getattr(found, f) for f in Manifest.__struct_fields__}
    fields["nonsecure_sha256"] = image_hash(folder / NONSECURE_IMAGE)
    fields["secure_sha256"] = image_hash(folder / SECURE_IMAGE)
    write_manifest(folder, Manifest(**fields).signed(Ed25519PrivateKey.generate()))


@pytest.mark.parametrize("board", [HOST, BOARD])
def test_the_image_of_one_device_does_not_run_on_another(
    projects: Projects, tmp_path: Path, board: str
) -> None:
    mine, other = projects.get(board, "withhold"), projects.get(board, "withhold", "d2")
    assert image_hash(mine / NONSECURE_IMAGE) != image_hash(other / NONSECURE_IMAGE)
    mixed = tmp_path / "mixed"
    shutil.copytree(mine, mixed)
    shutil.copy(other / NONSECURE_IMAGE, mixed / NONSECURE_IMAGE)
    with pytest.raises(NotAuthentic, match=r"firmware\.elf is not the image of the manifest"):
        run(mixed, samples(1))
    sign(mixed)
    with pytest.raises(NotAuthentic, match="does not start this non-secure image"):
        run(mixed, samples(1))


@pytest.mark.parametrize("mode", MODES)
def test_and_if_it_did_it_would_compute_something_else(mode: str) -> None:
    mixed = replace(divided(mode, "d1"), secure=divided(mode, "d2").secure)
    x = samples(50)
    assert np.array_equal(run_batch(join(divided(mode, "d2")), [x])[0], oracle(x))
    classes = [o.reshape(50, -1).argmax(1) for o in (run_batch(join(mixed), [x])[0], oracle(x))]
    assert np.mean(classes[0] == classes[1]) < 0.9


def test_a_model_that_cannot_be_divided_leaves_nothing(tmp_path: Path) -> None:
    net = Int8Net("one_layer", 1)
    graph = replace(net.build(net.conv(net.input(1, 4, 4, 8), 8)), stage=Stage.PLANNED)
    whose = Device("d", bytes(32), Ed25519PrivateKey.generate())
    board, context = load_board(HOST), PassContext()
    with pytest.raises(CompileError) as caught:
        write_protected(tmp_path / "out", graph, board, Protection("withhold"), whose, context)
    assert caught.value.where == "partition"
    assert not (tmp_path / "out").exists()


def test_a_changed_image_is_not_run(projects: Projects, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(projects.get(HOST, "withhold"), folder)
    image = folder / SECURE_IMAGE
    data = bytearray(image.read_bytes())
    data[len(data) // 4] ^= 1
    image.write_bytes(data)
    for use in (lambda: run(folder, samples(1)), lambda: verify(folder), lambda: bench(folder)):
        with pytest.raises(NotAuthentic):
            use()


def test_the_same_secret_makes_the_same_images(projects: Projects, tmp_path: Path) -> None:
    again = tmp_path / "again"
    protected(again, BOARD, "withhold")
    first, second = (read_manifest(f) for f in (projects.get(BOARD, "withhold"), again))
    assert first == second


def test_instructions_of_the_secure_world_are_measured(projects: Projects, tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    shutil.copytree(projects.get(BOARD, "withhold"), folder)
    report = bench(folder)
    plain, total = report.plain_instructions, report.instructions_per_inference
    assert plain is not None
    assert total is not None
    assert report.overhead_instructions == total - plain > 0
    assert report.bridge_instructions is not None
    assert report.secure_instructions is not None
    assert 0 < report.bridge_instructions < report.secure_instructions < total
    nodes = profile(folder)
    assert [p.node.op.name for p in nodes].count("authorize") == 1
    assert sum(p.instructions for p in nodes) == pytest.approx(total, rel=0.1)
    layers = profile_layers(folder)  # what `profile` and `report` show
    assert [x.instructions for x in layers] == [p.instructions for p in nodes]
    assert read_report(folder).overhead_instructions == report.overhead_instructions


def test_a_pair_is_sealed_with_the_program_of_a_product(projects: Projects, tmp_path: Path) -> None:
    """Another program: the same with a trace, which writes what it computes."""
    folder = tmp_path / "product"
    shutil.copytree(projects.get(BOARD, "withhold"), folder)
    zone = load_trust_zone(BOARD)
    other = non_secure_board(load_board(BOARD), zone)
    gateway = [Path("..") / "secure" / "build" / "gateway.o"]
    program = build(folder / "nonsecure", other, trace=True, objects=gateway)
    keys.new_signing_key(tmp_path / "vendor.pem")
    manifest = seal_image(folder, program, sign=tmp_path / "vendor.pem")
    assert manifest == check_manifest(folder, keys.read_public_key(tmp_path / "vendor.pub.pem"))
    assert manifest.nonsecure_sha256 == image_hash(program)
    x = samples(3)
    assert np.array_equal(run(folder, x).device_outputs[0], oracle(x))
    with pytest.raises(BadInput, match="is not a non-secure image"):
        seal_image(folder, folder / SECURE_IMAGE)
    with pytest.raises(BadInput, match="is not a non-secure image"):
        seal_image(folder, folder / "report.json")
    with pytest.raises(CompileError, match="a simulated pair"):
        seal_image(projects.get(HOST, "withhold"), program)


def test_a_physical_board_has_its_images_but_no_emulator(tmp_path: Path) -> None:
    report = protected(tmp_path, "nucleo-u575zi", "withhold")
    assert report.secure_flash_bytes
    assert not read_manifest(tmp_path).simulated
    with pytest.raises(CompileError, match="do not run here") as caught:
        run(tmp_path, samples(1))
    assert "mps2-an505" in str(caught.value.hint)


def test_the_host_counts_nothing(projects: Projects, tmp_path: Path) -> None:
    folder = tmp_path / "host"
    shutil.copytree(projects.get(HOST, "permute"), folder)
    report = bench(folder)
    assert report.instructions_per_inference is None
    assert report.secure_instructions is None
    with pytest.raises(CompileError, match="does not count instructions"):
        profile(folder)
