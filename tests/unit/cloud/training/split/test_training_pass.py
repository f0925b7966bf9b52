"""The pass of training steps gives what ``BinaryNet`` in training gives, and its gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cloud.training.split.training_pass import TrainingPass
from shared.model.architecture import Architecture
from shared.networks.binarynet import BinaryNet
from tests.support.trainings import tiny


def strided() -> Architecture:
    """``tiny`` with strides in place of its pools."""
    network = tiny()
    first, *more = network.device
    ternary, second, last = network.cloud
    return replace(
        network,
        device=(replace(first, pool=1, stride=2), *more),
        cloud=(replace(ternary, stride=2), replace(second, pool=1, stride=2), last),
    )


def made(network: Architecture) -> tuple[BinaryNet, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    net = BinaryNet(network)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("norm.bias"):
                parameter.normal_(std=0.2)
    net.train()
    return net, torch.randint(0, 256, (32, 1, 8, 8)).float(), torch.randint(0, 3, (32,))


def gradients(net: BinaryNet, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    net.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("network", [tiny(), strided()], ids=["pools", "strides"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("level", "cloud_level"), [(1, 1), (0, 0), (1, 0)])
def test_logits_and_gradients_are_those_of_the_network(
    level: int, cloud_level: int, aligned: bool, network: Architecture
) -> None:
    net, images, labels = made(network)
    bits = net.forward_device(images, level)
    expected = net.forward_cloud(bits, level, cloud_level), net.forward_exit(bits, level)
    wanted = gradients(net, sum((F.cross_entropy(y, labels) for y in expected), torch.zeros(())))

    run = TrainingPass(net, images, torch.float32, aligned=aligned)
    held = run.device(level)
    leaving = run.exit(held, level)
    assert leaving is not None
    found = run.cloud(held, level, cloud_level), leaving
    got = gradients(net, sum((F.cross_entropy(y, labels) for y in found), torch.zeros(())))

    assert torch.equal(2 * held - 1, bits)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert got.keys() == wanted.keys()
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-3, msg=name)


def test_in_bfloat16_nearly_all_bits_are_the_same() -> None:
    net, images, _ = made(tiny())
    held = TrainingPass(net, images, torch.bfloat16).device(1)
    assert held.dtype == torch.bfloat16
    exact = TrainingPass(net, images, torch.float32).device(1)
    assert float((held != exact).float().mean()) < 0.02
