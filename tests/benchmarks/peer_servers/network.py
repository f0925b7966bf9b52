"""A float network with the accuracy of ours, as an ONNX file for the peers to serve.

It is trained once, in some minutes, and stored below the user's cache folder. Its input is UINT8
(N, 28, 28, 1), as for our server, so that no peer has to convert images in Python.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cloud.training.data.datasets import DATA_DIR_VARIABLE, load
from tests.benchmarks.classifier import ClassifierSettings, accuracy_of, make_classifier
from tests.benchmarks.peer_servers.environments import FOLDER

SETTINGS = ClassifierSettings(epochs=4, widths=(12, 24, 32), shift=1, mirror=False)
OPSET, IR_VERSION = 17, 8
SIDE, CLASSES = 28, 10


def network_file() -> tuple[Path, float] | None:
    """Return the ONNX file and its accuracy on the MNIST test images.

    If it must be trained but the data set is missing, prints that to standard error and returns
    None.
    """
    checkpoint, path = FOLDER / "network.pt", FOLDER / "network.onnx"
    scored = FOLDER / "network.accuracy.txt"
    if path.exists() and scored.exists():
        return path, float(scored.read_text())
    folder = Path(os.environ.get(DATA_DIR_VARIABLE, "data"))
    try:
        sets = [load("mnist", folder, split) for split in ("train", "test")]
    except Exception as error:  # noqa: BLE001 - the rest of the benchmark needs no data set
        sys.stderr.write(f"the peers' network cannot be trained: {error}\n")
        return None
    torch.set_num_threads(1)
    train, test = ((one.images, one.labels) for one in sets)
    accuracy = accuracy_of("float network", train, test, SETTINGS, checkpoint, _say)
    network = make_classifier(1, CLASSES, SETTINGS.widths)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["network"])
    path.write_bytes(to_onnx(network).SerializeToString())
    scored.write_text(f"{accuracy:.4f}")
    return path, accuracy


def to_onnx(network: nn.Module) -> onnx.ModelProto:
    """Convert ``make_classifier``: image -> label INT64 (N,), probabilities FP32 (N, 10)."""
    nodes: list[Any] = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["x"]),
    ]
    constants = [
        helper.make_tensor("half", TensorProto.FLOAT, (), [127.5]),
        helper.make_tensor("one", TensorProto.FLOAT, (), [1.0]),
    ]
    value = "x"
    for number, layer in enumerate(network.eval().children()):
        made = _node(layer, value, f"y{number}", constants)
        if made is not None:
            nodes.append(made)
            value = f"y{number}"
    nodes += [
        helper.make_node("Softmax", [value], ["probabilities"], axis=1),
        helper.make_node("ArgMax", [value], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 1])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES]),
        ],
        constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _node(layer: nn.Module, before: str, after: str, constants: list[Any]) -> Any:
    """Make the ONNX node of a layer and add its weights to ``constants``; None for no operation."""

    def weights(**tensors: Any) -> list[str]:
        for name, tensor in tensors.items():
            array = tensor.detach().contiguous().numpy()
            constants.append(numpy_helper.from_array(array, f"{after}.{name}"))
        return [f"{after}.{name}" for name in tensors]

    match layer:
        case nn.Conv2d():
            inputs = [before, *weights(weight=layer.weight)]
            return helper.make_node("Conv", inputs, [after], kernel_shape=[3, 3], pads=[1] * 4)
        case nn.BatchNorm2d():
            scale = weights(weight=layer.weight, bias=layer.bias)
            moments = weights(mean=layer.running_mean, var=layer.running_var)
            inputs = [before, *scale, *moments]
            return helper.make_node("BatchNormalization", inputs, [after], epsilon=layer.eps)
        case nn.ReLU():
            return helper.make_node("Relu", [before], [after])
        case nn.MaxPool2d():
            return helper.make_node(
                "MaxPool", [before], [after], kernel_shape=[2, 2], strides=[2, 2]
            )
        case nn.AdaptiveAvgPool2d():  # 7x7 -> 2x2: windows of 4, 3 apart
            return helper.make_node(
                "AveragePool", [before], [after], kernel_shape=[4, 4], strides=[3, 3]
            )
        case nn.Flatten():
            return helper.make_node("Flatten", [before], [after])
        case nn.Linear():
            inputs = [before, *weights(weight=layer.weight, bias=layer.bias)]
            return helper.make_node("Gemm", inputs, [after], transB=1)
        case nn.Dropout():
            return None
    raise TypeError(f"no ONNX node for {layer}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
