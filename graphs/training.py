"""What the training scripts share: the data, the training loop, the ONNX writer, the provenance.

Run a script with the `train` and `dev` extras installed: `python graphs/digits_dscnn/train.py`.
A network describes itself once, in `run(ops, x)`: with `TorchOps` that computes, with `OnnxOps`
it writes the same network as ONNX nodes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from torch import nn

OPSET = 17
DATA = "scikit-learn load_digits: UCI optical recognition of handwritten digits (CC BY 4.0)"


@dataclass(frozen=True)
class Digits:
    """Images in [0, 1] with their labels; a fixed quarter of them is the test set."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def load(size: int, seed: int = 0) -> Digits:
    """Digits as float32 [n, 1, size, size], size 8 or a multiple (pixels repeated)."""
    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)
    images = images.repeat(size // 8, axis=1).repeat(size // 8, axis=2)[:, None]
    order = np.random.default_rng(seed).permutation(len(images))
    x, y = images[order], data.target[order].astype(np.int64)
    cut = len(x) * 3 // 4
    return Digits(x[:cut], y[:cut], x[cut:], y[cut:])


class TorchOps:
    """Computes the network."""

    def layer(self, x: torch.Tensor, module: nn.Module) -> torch.Tensor:
        return module(x)

    def relu(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)

    def relu6(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, 0, 6)

    def add(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=True)

    def flatten(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)

    def softmax(self, x: torch.Tensor) -> torch.Tensor:
        # The loss takes logits; only the exported network ends in a softmax.
        return x


@dataclass
class OnnxOps:
    """Writes the network as ONNX nodes. A value is a name: of its layer, then what came after."""

    names: dict[nn.Module, str]
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    def emit(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def parameter(self, name: str, tensor: torch.Tensor | np.ndarray) -> str:
        array = tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else tensor
        self.tensors.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def layer(self, x: str, module: nn.Module) -> str:
        name = self.names[module]
        weights = [self.parameter(f"{name}.{k}", p) for k, p in module.named_parameters()]
        match module:
            case nn.Conv2d():
                return self.emit(
                    "Conv",
                    [x, *weights],
                    name,
                    kernel_shape=list(module.kernel_size),
                    strides=list(module.stride),
                    pads=[*module.padding, *module.padding],
                    group=module.groups,
                )
            case nn.BatchNorm2d():
                weights.append(self.parameter(f"{name}.mean", module.running_mean))
                weights.append(self.parameter(f"{name}.var", module.running_var))
                return self.emit("BatchNormalization", [x, *weights], name, epsilon=module.eps)
            case nn.Linear():
                return self.emit("Gemm", [x, *weights], name, transB=1)
            case _:
                raise TypeError(f"no ONNX form for {module}")

    def relu(self, x: str) -> str:
        return self.emit("Relu", [x], f"{x.removesuffix('_norm')}_relu")

    def relu6(self, x: str) -> str:
        name = f"{x.removesuffix('_norm')}_relu6"
        limits = [self.parameter(f"{name}_{k}", np.array(v)) for k, v in (("min", 0), ("max", 6))]
        return self.emit("Clip", [x, *limits], name)

    def add(self, a: str, b: str) -> str:
        return self.emit("Add", [a, b], f"{a.rpartition('.')[0]}.add")

    def pool(self, x: str) -> str:
        return self.emit("GlobalAveragePool", [x], "pool")

    def flatten(self, x: str) -> str:
        return self.emit("Flatten", [x], f"{x}_flat", axis=1)

    def softmax(self, x: str) -> str:
        return self.emit("Softmax", [x], "softmax", axis=1)


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


def fit(network: nn.Module, x: np.ndarray, y: np.ndarray, loss: nn.Module, epochs: int) -> None:
    """Adam with a cosine schedule; images are shifted by up to a sixteenth at random."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, targets = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    reach = x.shape[-1] // 16 if x.ndim == 4 else 0
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images)).split(32):
            shift = [int(v) for v in torch.randint(-reach, reach + 1, (2,))]
            inputs = images[batch].roll(shift, (2, 3)) if reach else images[batch]
            optimizer.zero_grad()
            error = loss(network.run(TorchOps(), inputs), targets[batch])
            error.backward()
            optimizer.step()
            total += float(error.detach()) * len(batch)
        schedule.step()
        print(f"epoch {epoch + 1:3d}/{epochs}  loss {total / len(images):.4f}", flush=True)
    network.eval()


def infer(network: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network.run(TorchOps(), torch.from_numpy(x)).numpy()


def save(
    folder: Path,
    network: nn.Module,
    shapes: tuple[list[int], list[int]],
    files: dict[str, dict[str, np.ndarray]],
    facts: dict[str, Any],
) -> None:
    """Write model.onnx, the sample files and provenance.toml.

    shapes: of the input and the output, without the batch. files: arrays by file stem.
    """
    ops = OnnxOps({module: name for name, module in network.named_modules()})
    result = network.run(ops, "x")
    if result != ops.nodes[-1].output[0]:
        raise ValueError("the last node must make the output")
    ops.nodes[-1].output[0] = "y"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in zip(("x", "y"), shapes, strict=True)
    ]
    graph = helper.make_graph(ops.nodes, folder.name, ends[:1], ends[1:], ops.tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version, model.producer_name = 8, "tinsmith graphs"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "model.onnx")
    for stem, arrays in files.items():
        np.savez_compressed(folder / f"{stem}.npz", **arrays)
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    rows = {
        "script": f"graphs/{folder.name}/train.py",
        "data": DATA,
        **facts,
        "torch": torch.__version__.split("+")[0],
        "model_sha256": digest,
    }
    # A JSON string or number is a TOML one too.
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())
    (folder / "provenance.toml").write_text(text)
    print(text)
