"""The same layers in torch and ONNX Runtime, for comparison; one thread each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from shared.model.architecture import Kind, Shape, Stage
from tests.benchmarks.harness import Subject, calls

RNG = np.random.default_rng(0)
OPSET = 17
INT8 = {
    "x_scale": np.float32(0.02),
    "x_zero": np.uint8(128),
    "w_scale": np.float32(0.01),
    "w_zero": np.int8(0),
    "y_scale": np.float32(0.1),
    "y_zero": np.uint8(128),
}


@dataclass(frozen=True)
class Layer:
    """A convolution (or a linear layer over a map, as a kernel of its size), then max pooling."""

    inputs: int
    outputs: int
    height: int
    width: int
    kernel: tuple[int, int]
    padding: int
    pool: int


def conv3x3(inputs: int, outputs: int, side: int) -> list[Layer]:
    """Make one 3x3 layer on a square map."""
    return [Layer(inputs, outputs, side, side, (3, 3), 1, 1)]


def layers_of(shapes: Iterable[tuple[Stage, Shape, Shape]]) -> list[Layer]:
    """Make the layers of a half at one level, from ``device_shapes`` or ``cloud_shapes``."""
    layers = []
    for stage, before, after in shapes:
        linear = stage.kind is Kind.BINARY_LINEAR
        kernel = (before.height, before.width) if linear else (3, 3)
        layers.append(
            Layer(
                before.channels,
                after.channels,
                before.height,
                before.width,
                kernel,
                0 if linear else 1,
                1 if linear else stage.pool,
            )
        )
    return layers


def torch_subject(layers: Sequence[Layer], dtype: torch.dtype, channels_last: bool) -> Subject:
    """Make a subject of the layers in torch, for one image: convolution, pooling, ReLU between."""
    torch.set_num_threads(1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    first = layers[0]
    image = torch.randn(1, first.inputs, first.height, first.width).to(dtype)
    image = image.contiguous(memory_format=layout)
    weights = [
        torch.randn(layer.outputs, layer.inputs, *layer.kernel)
        .to(dtype)
        .contiguous(memory_format=layout)
        for layer in layers
    ]

    @torch.inference_mode()
    def forward() -> torch.Tensor:
        x = image
        for layer, weight in zip(layers, weights, strict=True):
            x = F.conv2d(x, weight, padding=layer.padding)
            if layer.pool > 1:
                x = F.max_pool2d(x, layer.pool)
            if len(layers) > 1:
                x = F.relu(x)
        return x

    for _ in range(5):
        forward()
    return calls(forward)


def onnx_subject(layers: Sequence[Layer], int8: bool) -> Subject:
    """Make a subject of the layers in ONNX Runtime: convolution, pooling, ReLU between."""
    nodes: list[Any] = []
    constants = [numpy_helper.from_array(np.array(v), n) for n, v in INT8.items()] if int8 else []
    name = "x"
    for index, layer in enumerate(layers):
        size = (layer.outputs, layer.inputs, *layer.kernel)
        weight = RNG.integers(-127, 128, size).astype(np.int8)
        values = weight if int8 else weight.astype(np.float32) / 127
        constants.append(numpy_helper.from_array(values, f"w{index}"))
        out = f"y{index}"
        if int8:
            operands = [name, "x_scale", "x_zero", f"w{index}", "w_scale", "w_zero", "y_scale"]
            inputs = [*operands, "y_zero"]
        else:
            inputs = [name, f"w{index}"]
        pads = [layer.padding] * 4
        kind = "QLinearConv" if int8 else "Conv"
        nodes.append(
            helper.make_node(kind, inputs, [out], pads=pads, kernel_shape=list(layer.kernel))
        )
        if len(layers) > 1 and not int8:  # in int8 a zero point of 128 has the effect of a ReLU
            nodes.append(helper.make_node("Relu", [out], [f"r{index}"]))
            out = f"r{index}"
        if layer.pool > 1:
            sides = [layer.pool, layer.pool]
            nodes.append(
                helper.make_node("MaxPool", [out], [f"p{index}"], kernel_shape=sides, strides=sides)
            )
            out = f"p{index}"
        name = out
    element = TensorProto.UINT8 if int8 else TensorProto.FLOAT
    first = layers[0]
    shape = [1, first.inputs, first.height, first.width]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info(name, element, list("nchw"))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    image = RNG.integers(0, 256, shape).astype(np.uint8 if int8 else np.float32)
    feed = {"x": image}
    return calls(lambda: session.run(None, feed))


def peers(layers: Sequence[Layer]) -> dict[str, Subject]:
    """Make the subjects of all libraries; compare with the faster of the two torch layouts."""
    return {
        "torch f32": torch_subject(layers, torch.float32, channels_last=False),
        "torch f32 channels_last": torch_subject(layers, torch.float32, channels_last=True),
        "torch bf16": torch_subject(layers, torch.bfloat16, channels_last=False),
        "torch bf16 channels_last": torch_subject(layers, torch.bfloat16, channels_last=True),
        "ort f32": onnx_subject(layers, int8=False),
        "ort int8": onnx_subject(layers, int8=True),
    }
