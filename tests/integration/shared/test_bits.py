"""The packed runtime gives the same bits as torch: 1,000 real images, every level, every stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from rich.console import Console
from rich.progress import Progress

from cloud.training.data.datasets import Dataset, load
from cloud.training.data.fetching import fetch
from cloud.training.data.known import KNOWN
from cloud.training.split.architectures import compact, paper, wide_colour
from cloud.training.split.context import ContextSettings
from cloud.training.split.export import export
from shared.model.architecture import Activation, Architecture, Kind, Shape, Stage
from shared.model.bits import pack
from shared.model.bundle import Bundle
from shared.model.exits import ONE
from shared.networks.binarynet import BinaryNet
from shared.packed import CloudHalf, DeviceHalf, kernels
from tests.support.torch_threads import few_threads

IMAGES = 1000
FEW = 8
GREY = Shape(28, 28, 1)
SHORT = ContextSettings(hidden=8, steps=2, batch=64)  # the codec's tables are no matter here


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of such small parts."""
    with few_threads():
        yield


@pytest.fixture(scope="session")
def mnist(data_dir: Path) -> Dataset:
    """The real MNIST test set, fetched if it is not there."""
    with Progress(console=Console(stderr=True), disable=True) as progress:
        fetch("mnist", KNOWN["mnist"], data_dir, progress)
    return load("mnist", data_dir, "test")


def odd() -> Architecture:
    """Odd widths, odd map sizes, another profile for every layer, an exit head."""
    return Architecture(
        name="odd",
        input_shape=GREY,
        classes=10,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, 1, 12, pool=3, step=4),
            Stage("conv2", Kind.BINARY_CONV, 12, 21, step=8, profile="harmonic"),
            Stage("conv3", Kind.BINARY_CONV, 21, 11, step=1, profile="half-exp"),
        ),
        cloud=(
            Stage("conv4", Kind.BINARY_CONV, 11, 40, pool=2, profile="all-one"),
            Stage("conv5", Kind.BINARY_CONV, 40, 17, step=3),
            Stage("linear1", Kind.BINARY_LINEAR, 17, 24, profile="linear"),
            Stage("classify", Kind.BINARY_LINEAR, 24, 10),
        ),
        device_levels=(0.2, 0.6, 1.0),
        cloud_levels=(0.3, 1.0),
        exit_head=True,
    )


def odd_ternary() -> Architecture:
    """The odd network with two bits a channel inside its cloud half."""
    made = odd()
    inner = [replace(stage, activation=Activation.TERNARY) for stage in made.cloud[:-1]]
    return replace(made, cloud=(*inner, made.cloud[-1]))


def strided() -> Architecture:
    """Strides in place of pools, over odd maps too: 28 to 14 to 7 pixels, then to 4 and to 2."""
    made = odd()
    first, second, third = (replace(stage, pool=1) for stage in made.device)
    device = (replace(first, stride=2), second, replace(third, stride=2))
    fourth, fifth, *rest = made.cloud
    ternary = replace(fourth, pool=1, stride=2, activation=Activation.TERNARY)
    return replace(made, device=device, cloud=(ternary, replace(fifth, stride=2), *rest))


def at_ends(architecture: Architecture) -> Architecture:
    """The network with a narrow and the full level of each half: all of them take long."""
    return replace(architecture, device_levels=(0.3, 1.0), cloud_levels=(0.25, 1.0))


def made(architecture: Architecture, data: Dataset) -> tuple[BinaryNet, Bundle]:
    """A network with random weights, scales of both signs, real statistics; and its bundle."""
    torch.manual_seed(7)
    net = BinaryNet(architecture)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("norm.weight", "norm.bias")):
                parameter.normal_()
            if name.endswith("delta"):
                parameter.uniform_(0, 1)
        images = torch.from_numpy(data.images[:64]).permute(0, 3, 1, 2).float()
        net.eval()
        net.calibrate(images)
    few = replace(data, images=data.images[:20], labels=data.labels[:20])
    return net, export(net, architecture.name, few, few, few, {}, SHORT)


def channel_last(bits: torch.Tensor) -> npt.NDArray[np.bool_]:
    """-1/+1 (B, C, H, W) -> truth values (B, H, W, C)."""
    return (bits > 0).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        (paper(GREY, 10), IMAGES),
        (at_ends(compact(GREY, 10)), 60),
        (odd(), 200),
        (odd_ternary(), 200),
        (strided(), 200),
        (at_ends(wide_colour(GREY, 10)), 8),
    ],
    ids=["paper", "compact", "odd", "odd-ternary", "strided", "wide-colour"],
)
def test_every_stage_and_level(architecture: Architecture, count: int, mnist: Dataset) -> None:
    net, bundle = made(architecture, mnist)
    images = mnist.images[:count]
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    device, cloud = DeviceHalf(bundle), CloudHalf(bundle)
    devices = {kernel: DeviceHalf(bundle, kernel) for kernel in kernels.available()}
    clouds = {kernel: CloudHalf(bundle, kernel) for kernel in kernels.available()}
    # Traces are numpy's already: what its halves add to them takes few images.
    counts = {kernel: FEW if kernel == kernels.NUMPY else count for kernel in devices}
    with torch.no_grad():
        sums = net.image_sums(tensor)
        for level in range(len(architecture.device_levels)):
            trace = net.device_trace(sums, level)
            for theirs, ours in zip(trace, device.trace(images, level), strict=True):
                assert np.array_equal(channel_last(theirs), ours)
            packed = pack(channel_last(trace[-1]).reshape(count, -1))
            for kernel, half in devices.items():
                many = counts[kernel]
                assert np.array_equal(half.run(images[:many], level), packed[:many]), kernel
            if net.exit is not None:
                expected = net.forward_exit(trace[-1], level).numpy()
                found_exit = device.exit_logits(packed, level)
                # Scale and bias are rounded to 1 / ONE, half of it at most off.
                exit_sums = net.exit.sums(trace[-1], architecture.classes)
                rounding = (float(exit_sums.abs().max()) + 1) / 2 / ONE
                np.testing.assert_allclose(
                    found_exit / ONE, expected, rtol=1e-4, atol=1e-4 + rounding
                )
            for cloud_level in range(len(architecture.cloud_levels)):
                *stages, logits = net.cloud_trace(trace[-1], level, cloud_level)
                *values, _ = cloud.trace(packed, level, cloud_level)
                for theirs, ours in zip(stages, values, strict=True):
                    assert np.array_equal(theirs.permute(0, 2, 3, 1).numpy(), ours)
                first = clouds[kernels.available()[0]].run(packed, level, cloud_level)
                np.testing.assert_allclose(first, logits, rtol=1e-4, atol=1e-4)
                for kernel, answering in clouds.items():
                    many = counts[kernel]
                    answers = answering.run(packed[:many], level, cloud_level)
                    assert np.array_equal(answers, first[:many]), kernel


@pytest.mark.parametrize("architecture", [paper(GREY, 10), odd_ternary()], ids=["paper", "ternary"])
def test_last_sums_are_the_integers_of_torch(architecture: Architecture, mnist: Dataset) -> None:
    net, bundle = made(architecture, mnist)
    tensor = torch.from_numpy(mnist.images[:IMAGES]).permute(0, 3, 1, 2).float()
    cloud = CloudHalf(bundle)
    last = net.cloud[-1]
    with torch.no_grad():
        for level in range(len(architecture.device_levels)):
            bits = net.forward_device(tensor, level)
            packed = pack(channel_last(bits).reshape(IMAGES, -1))
            *_, before, _ = net.cloud_trace(bits, level, 0)
            theirs = last.sums(before, 10).flatten(1).numpy()  # type: ignore[operator]
            ours = cloud.trace(packed, level, 0)[-1].reshape(IMAGES, 10)
            assert np.array_equal(theirs, ours)


def test_shipped_bundle_meets_its_floors(bundle: Bundle, mnist: Dataset) -> None:
    floors = {(1.0, 1.0): 0.975, (0.3, 1.0): 0.95, (0.125, 0.25): 0.90}
    architecture = bundle.architecture
    for (fraction, cloud_fraction), floor in floors.items():
        level = architecture.device_levels.index(fraction)
        cloud_level = architecture.cloud_levels.index(cloud_fraction)
        features = DeviceHalf(bundle).run(mnist.images, level)
        logits = CloudHalf(bundle).run(features, level, cloud_level)
        accuracy = float((logits.argmax(axis=1) == mnist.labels).mean())
        assert accuracy >= floor
        assert accuracy == bundle.metadata.accuracy[level][cloud_level]
