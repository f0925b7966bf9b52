"""The split network in torch, with ternary stages in its cloud half."""

from __future__ import annotations

import copy
from functools import partial
from typing import cast

import pytest
import torch

from shared.model.architecture import Activation, Architecture, Kind, Shape, Stage
from shared.networks.binary_stage import BinaryStage, Step
from shared.networks.binarynet import BinaryNet


def small() -> Architecture:
    ternary = Activation.TERNARY
    return Architecture(
        name="small",
        input_shape=Shape(8, 8, 1),
        classes=3,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, 1, 8),
            Stage("conv2", Kind.BINARY_CONV, 8, 8, pool=2, step=1),
        ),
        cloud=(
            Stage("conv3", Kind.BINARY_CONV, 8, 16, activation=ternary),
            Stage("conv4", Kind.BINARY_CONV, 16, 16, pool=2, activation=ternary),
            Stage("classify", Kind.BINARY_LINEAR, 16, 3),
        ),
        device_levels=(0.5, 1.0),
        cloud_levels=(0.5, 1.0),
        exit_head=True,
    )


def made() -> tuple[BinaryNet, torch.Tensor]:
    torch.manual_seed(0)
    return BinaryNet(small()), torch.randint(0, 256, (64, 1, 8, 8)).float()


@torch.no_grad()
def test_ternary_stages_give_three_values() -> None:
    net, images = made()
    net.eval()
    net.calibrate(images)
    bits = net.forward_device(images, 1)
    first, second, logits = net.cloud_trace(bits, 1, 1)
    assert set(bits.flatten().tolist()) == {-1, 1}
    assert set(first.flatten().tolist()) == {-2, 0, 2}
    assert set(second.flatten().tolist()) == {-2, 0, 2}
    assert logits.shape == (64, 3)


@torch.no_grad()
def test_sums_behind_a_ternary_stage_are_exact_integers() -> None:
    net, images = made()
    net.eval()
    net.calibrate(images)
    conv3, conv4 = (cast(BinaryStage, stage) for stage in net.cloud[:2])
    x = net.cloud_trace(net.forward_device(images, 0), 0, 0)[0]
    n = x.shape[1]
    signs = torch.where(conv4.conv.weight[:, :n] >= 0, 1.0, -1.0).double()
    weights = signs * conv4.conv.coefficients[:n, None, None]
    framed = torch.nn.functional.pad(x.double(), (1, 1, 1, 1), value=-2)
    sums = torch.nn.functional.conv2d(framed, weights)
    expected = torch.nn.functional.max_pool2d(sums, 2)
    assert torch.equal(conv4.sums(x, 16).double(), expected)
    assert conv3.conv.padding_value == -1


def test_a_step_trains_delta_and_keeps_it_positive() -> None:
    net, images = made()
    net.train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(images, 1, 1)
    torch.nn.functional.cross_entropy(logits.float(), torch.arange(64) % 3).backward()  # type: ignore[no-untyped-call]
    deltas = [cast(BinaryStage, stage).delta for stage in net.cloud[:2]]
    for delta in deltas:
        assert delta is not None
        assert delta.grad is not None
        assert delta.grad.abs().sum() > 0
        delta.data -= 1
    net.clip_latent_weights()
    assert all((delta == 0).all() for delta in deltas if delta is not None)
    assert cast(BinaryStage, net.cloud[2]).delta is None


def statistics(net: BinaryNet) -> dict[str, torch.Tensor]:
    return {name: value for name, value in net.named_buffers() if name.endswith(("mean", "var"))}


@torch.no_grad()
def at_once(net: BinaryNet, images: torch.Tensor) -> None:
    """All images in one pass, each layer measured right before it is used."""
    net.eval()

    def through(step: Step, x: torch.Tensor) -> torch.Tensor:
        step.stage.norm.measure(step.sums(x), step.table, first=True)
        return step.run(x)

    shapes = net.architecture
    for level in range(len(shapes.device_levels)):
        bits = images
        for module, (_, _, after) in zip(net.device, shapes.device_shapes(level), strict=True):
            bits = through(Step(cast(BinaryStage, module), after.channels, level), bits)
        through(Step(cast(BinaryStage, net.exit), shapes.classes, level), bits)
        for cloud_level in range(len(shapes.cloud_levels)):
            x, pair = bits, net.pair(level, cloud_level)
            kept = shapes.cloud_shapes(level, cloud_level)
            for module, (_, _, after) in zip(net.cloud, kept, strict=True):
                x = through(Step(cast(BinaryStage, module), after.channels, pair), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_calibration_in_parts_is_that_of_all_images_at_once(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, images = made()
    whole = copy.deepcopy(net)
    at_once(whole, images)
    monkeypatch.setattr("shared.networks.binarynet.MAP_VALUES", 8 * 8 * 8 * 10)
    heard: list[tuple[int, int]] = []
    net.train()
    net.calibrate(images.to(dtype), lambda done, of: heard.append((done, of)))
    assert net.training
    assert heard == [(done, 6) for done in range(1, 7)]
    expected = statistics(whole)
    for name, value in statistics(net).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-9)


def test_calibration_needs_images() -> None:
    net, images = made()
    with pytest.raises(ValueError, match="images: there are none"):
        net.calibrate(images[:0])


def test_evaluation_needs_calibration() -> None:
    net, images = made()
    with pytest.raises(RuntimeError, match=r"call BinaryNet\.calibrate"):
        net.eval()(images, 1, 1)


@torch.no_grad()
def test_evaluation_is_exact_under_autocast_and_refused_in_half_precision() -> None:
    net, images = made()
    net.eval()
    net.calibrate(images)
    expected = net(images, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(images, 1, 1), expected)
    with pytest.raises(TypeError, match="is not exact"):
        net.half()(images.half(), 1, 1)


def test_maps_stay_channels_last_and_in_the_type_of_autocast() -> None:
    net, images = made()
    net.train()
    with torch.autocast("cpu", torch.bfloat16):
        maps = net.device_trace(net.image_sums(images), 0)
        maps += net.cloud_trace(maps[-1], 0, 0)[:-1]
    for values in maps:
        assert values.dtype == torch.bfloat16
        assert values.is_contiguous(memory_format=torch.channels_last)


def grid_loss(net: BinaryNet, images: torch.Tensor) -> torch.Tensor:
    """Something that depends on a level of both halves, and on the exit head."""
    total = torch.zeros(())
    bits = net.device_trace(net.image_sums(images), 0)[-1]
    for y in (net.forward_exit(bits, 0), net.forward_cloud(bits, 0, 1)):
        total = total + y.square().mean() + y[:, 0].mean() * 0.1
    return total


# torch instantiates an autograd function itself while it captures one.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_training_and_evaluation_compile_in_one_graph() -> None:
    net, images = made()
    net.train()
    found = []
    # What is captured is compared; generating C++ from it is torch's part, and takes a minute.
    captured = partial(torch.compile, backend="aot_eager", fullgraph=True)
    for run in (grid_loss, captured(grid_loss)):
        net.zero_grad()
        loss = run(net, images)
        loss.backward()
        gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
        found.append({**gradients, "loss": loss.detach()})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4, msg=name)
    net.calibrate(images)
    net.eval()
    with torch.no_grad():
        assert torch.equal(captured(net.forward)(images, 1, 1), net(images, 1, 1))
