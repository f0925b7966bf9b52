"""A trained network -> a model bundle: folded thresholds, packed weights, codec tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.training.evaluate import device_features, grid_accuracy
from shared.architecture import Stage
from shared.bits import pack
from shared.bundle import Bundle, Metadata, make_bundle
from shared.codec import DICTIONARY, train_dictionary
from shared.networks.binarynet import BinaryNet
from shared.packed import DeviceHalf

DICTIONARY_BYTES = 2048
DICTIONARY_IMAGES = 6000  # zstd wants about 100 times the dictionary's size to learn from

Tensors = dict[str, npt.NDArray[Any]]


def export(
    net: BinaryNet,
    name: str,
    class_names: Sequence[str],
    train_images: npt.NDArray[np.uint8],
    test_images: npt.NDArray[np.uint8],
    test_labels: npt.NDArray[np.int64],
    training: Mapping[str, Any],
) -> Bundle:
    """The bundle of a calibrated network, with its accuracy over all levels on the test set.

    Images are (N, H, W, C) uint8. Codec tables are trained on ``train_images`` only.
    """
    metadata = Metadata(name, net.architecture, tuple(class_names), (), dict(training))
    tensors = _network_tensors(net)
    half = DeviceHalf(make_bundle(metadata, tensors))
    for level in range(len(net.architecture.device_levels)):
        features = device_features(half, train_images[:DICTIONARY_IMAGES], level)
        dictionary = train_dictionary(features, DICTIONARY_BYTES)
        if dictionary.size:
            tensors[f"codec.{level}.{DICTIONARY}"] = dictionary
    bundle = make_bundle(metadata, tensors)
    accuracy = grid_accuracy(bundle, test_images, test_labels)
    return make_bundle(replace(metadata, accuracy=accuracy), tensors)


def _network_tensors(net: BinaryNet) -> Tensors:
    device_levels = range(len(net.architecture.device_levels))
    pairs = range(len(net.architecture.device_levels) * len(net.architecture.cloud_levels))
    tensors: Tensors = {}
    for stage in net.device:
        _add_stage(tensors, "device", stage, device_levels, logits=False)
    if net.exit is not None:
        _add_stage(tensors, "exit", net.exit, device_levels, logits=True)
    for stage in net.cloud:
        _add_stage(tensors, "cloud", stage, pairs, logits=stage is net.cloud[-1])
    return tensors


def _add_stage(
    tensors: Tensors, group: str, module: Any, levels: Sequence[int], logits: bool
) -> None:
    stage: Stage = module.stage
    # (out, in, kh, kw) -> (out, kh, kw, in): bits channel-last, as activations are
    signs = (module.conv.weight.detach() >= 0).permute(0, 2, 3, 1).reshape(stage.out_channels, -1)
    empty: npt.NDArray[Any] = np.zeros((0, 0))
    values: Tensors
    if logits:
        tables = [module.norm.affine(level, stage.out_channels) for level in levels]
        first, second = (np.stack([table[i] for table in tables]) for i in range(2))
        values = {"threshold": empty, "flip": empty, "scale": first, "bias": second}
    else:
        folds = [module.norm.fold(level, stage.out_channels) for level in levels]
        values = {
            "threshold": np.stack([threshold for threshold, _ in folds]),
            "flip": np.stack([flip for _, flip in folds]),
            "scale": empty,
            "bias": empty,
        }
    prefix = f"{group}.{stage.name}."
    tensors[prefix + "weight"] = pack(signs.numpy())
    tensors[prefix + "coefficients"] = module.conv.coefficients.numpy().astype(np.int32)
    tensors[prefix + "threshold"] = values["threshold"].astype(np.int32)
    tensors[prefix + "flip"] = values["flip"].astype(np.uint8)
    tensors[prefix + "scale"] = values["scale"].astype(np.float32)
    tensors[prefix + "bias"] = values["bias"].astype(np.float32)
