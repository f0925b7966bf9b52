"""The split network in torch, with ternary stages in its cloud half."""

from __future__ import annotations

from typing import cast

import torch

from shared.model.architecture import Activation, Architecture, Kind, Shape, Stage
from shared.networks.binarynet import BinaryNet, BinaryStage


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
