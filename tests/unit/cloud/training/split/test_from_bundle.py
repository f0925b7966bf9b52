"""A bundle becomes a network to train on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cloud.training.split.from_bundle import network_of
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.model.bits import unpack
from shared.model.bundle import read_bundle
from shared.packed import CloudHalf, DeviceHalf


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("mnist-binary", ((0, 0), (2, 3), (5, 3))),
        # It has a ternary stage. Digits are no clothes: many of its answers to them are near ties.
        ("fashion-binary", ((0, 0), (2, 3))),
    ],
)
def test_its_device_half_gives_the_bundles_bits_and_its_cloud_half_nearly_the_logits(
    name: str, pairs: tuple[tuple[int, int], ...]
) -> None:
    bundle = read_bundle(bundle_path(name))
    images = sample_digits()[0][..., None]
    net = network_of(bundle, images)
    device, cloud = DeviceHalf(bundle), CloudHalf(bundle)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    for level, cloud_level in pairs:
        with torch.no_grad():
            sent = net.forward_device(x, level)
            found = net.forward_cloud(sent, level, cloud_level).argmax(dim=1).numpy()
        packed = device.run(images, level)
        # (B, n, H, W) -> (B, H * W * n), channel-last as on the wire
        bits = sent.permute(0, 2, 3, 1).flatten(1).numpy() > 0
        assert np.array_equal(bits, unpack(packed, bits.shape[1]))
        labels = cloud.run(packed, level, cloud_level).argmax(axis=1)
        assert (found == labels).mean() > 0.9
