"""Export a trained network as a bundle: folded thresholds, packed weights, codec tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.training.data.datasets import Dataset
from cloud.training.split.codec_tables import codec_tensors
from cloud.training.split.context import ContextSettings
from cloud.training.split.evaluate import exit_levels, grid_accuracy
from cloud.training.split.exit_calibration import calibrate
from cloud.training.split.look_calibration import level_answers, look_tables
from shared.model.architecture import Stage
from shared.model.bits import pack
from shared.model.bundle import (
    VALIDATION_ACCURACY,
    Bundle,
    Metadata,
    make_bundle,
    stage_to_file,
)
from shared.model.stage_tensors import StageTensors
from shared.networks.binarynet import BinaryNet

Tensors = dict[str, npt.NDArray[Any]]


def export(
    net: BinaryNet,
    name: str,
    train_set: Dataset,
    validation_set: Dataset,
    test_set: Dataset,
    training: Mapping[str, Any],
    codec: ContextSettings | None = None,
) -> Bundle:
    """Return the bundle of a calibrated network, with its accuracy at all levels on the test set.

    Codec tables are trained on ``train_set``. The exit head's temperature and threshold are chosen
    on ``validation_set``; the bundle also holds the accuracies on it, for choices of its users.
    """
    metadata = Metadata(
        name,
        net.architecture,
        train_set.classes,
        (),
        dict(training),
        preprocessing=train_set.preprocessing,
    )
    tensors = _network_tensors(net)
    tensors |= codec_tensors(make_bundle(metadata, tensors), train_set.images, codec)
    bundle = make_bundle(metadata, tensors)
    validation = grid_accuracy(bundle, validation_set.images, validation_set.labels)
    extra: dict[str, Any] = {VALIDATION_ACCURACY: [list(row) for row in validation]}
    if net.exit is not None:
        levels = exit_levels(
            bundle,
            validation_set.images,
            validation_set.labels,
            test_set.images,
            test_set.labels,
        )
        extra["exit"] = calibrate(levels)
    calibrated = make_bundle(replace(metadata, extra=extra), tensors)
    answers = level_answers(calibrated, validation_set.images, validation_set.labels)
    extra |= look_tables(answers)
    accuracy = grid_accuracy(bundle, test_set.images, test_set.labels)
    return make_bundle(replace(metadata, accuracy=accuracy, extra=extra), tensors)


def _network_tensors(net: BinaryNet) -> Tensors:
    architecture = net.architecture
    device_levels = range(len(architecture.device_levels))
    pairs = range(len(architecture.device_levels) * len(architecture.cloud_levels))
    placed: list[tuple[str, Any, range, bool]]
    placed = [("device", stage, device_levels, False) for stage in net.device]
    if net.exit is not None:
        placed.append(("exit", net.exit, device_levels, True))
    placed += [("cloud", stage, pairs, stage is net.cloud[-1]) for stage in net.cloud]
    tensors: Tensors = {}
    for group, module, levels, logits in placed:
        numbers = _stage_tensors(module, levels, logits)
        tensors |= stage_to_file(architecture, group, module.stage.name, numbers)
    return tensors


def _stage_tensors(module: Any, levels: Sequence[int], logits: bool) -> StageTensors:
    stage: Stage = module.stage
    # (out, in, kh, kw) -> (out, kh, kw, in): bits channel-last, as activations are
    signs = (module.conv.weight.detach() >= 0).permute(0, 2, 3, 1).reshape(stage.out_channels, -1)
    numbers: dict[str, npt.NDArray[Any]] = {
        "weight": pack(signs.cpu().numpy()),
        "coefficients": module.conv.coefficients.cpu().numpy().astype(np.int32),
    }
    norm, count = module.norm, stage.out_channels
    if logits:
        tables = [norm.scale_and_bias(level, count) for level in levels]
        numbers["scale"], numbers["bias"] = map(np.stack, zip(*tables, strict=True))
        return StageTensors(**numbers)
    # The upper bit of a ternary stage means y >= delta, the lower bit y >= -delta.
    tables = [norm.fold(level, count, module.delta) for level in levels]
    numbers["threshold"], flips = map(np.stack, zip(*tables, strict=True))
    if module.delta is not None:
        low = [norm.fold(level, count, -module.delta)[0] for level in levels]
        numbers["low_threshold"] = np.stack(low)
    return StageTensors(**numbers, flip=flips.astype(np.uint8))
