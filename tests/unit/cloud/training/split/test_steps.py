"""One training step: what it adds up, and that a recorded one is the same as an eager one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cloud.training.split.pairs import Pairs
from cloud.training.split.processor import CPU, Processor, processor
from cloud.training.split.steps import Stepper, step_loss, taught_loss
from cloud.training.split.training_pass import TrainingPass
from shared.errors import UsageError
from shared.networks.binarynet import BinaryNet
from tests.support.trainings import QUICK, tiny

WIDEST: Pairs = ((1, (1,)),)
ALL: Pairs = ((1, (1, 0)), (0, (0,)))


def batch(device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    images = torch.randint(0, 256, (16, 1, 8, 8)).float()
    return images.to(device), torch.randint(0, 3, (16,)).to(device)


def made(device: str = "cpu") -> BinaryNet:
    torch.manual_seed(0)
    return BinaryNet(tiny()).to(device)


def test_the_loss_adds_up_weighted_pairs_and_exits() -> None:
    net, (images, labels) = made(), batch()
    lesson = torch.randn(16, 3)
    run = TrainingPass(net, images, torch.float32)
    settings = replace(QUICK, widest_weight=3.0, exit_weight=0.25)
    total, hard, logits = step_loss(run, labels, ALL, settings, lesson)
    bits = [run.device(level) for level in (0, 1)]
    expected = 3.0 * taught_loss(run.cloud(bits[1], 1, 1), labels, lesson, settings)
    for level, cloud_level in ((1, 0), (0, 0)):
        answer = run.cloud(bits[level], level, cloud_level)
        expected = expected + taught_loss(answer, labels, lesson, settings)
    for level in (0, 1):
        leaving = run.exit(bits[level], level)
        assert leaving is not None
        expected = expected + 0.25 * taught_loss(leaving, labels, lesson, settings)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(hard, F.cross_entropy(logits, labels))


def test_without_a_teacher_the_widest_pair_learns_from_the_labels_alone() -> None:
    net, (images, labels) = made(), batch()
    settings = replace(QUICK, widest_weight=1.0, exit_weight=0.0)
    run = TrainingPass(net, images, torch.float32)
    total, hard, _ = step_loss(run, labels, WIDEST, settings, None)
    torch.testing.assert_close(total.detach(), hard)


def test_a_teacher_that_is_sure_and_right_is_like_the_labels() -> None:
    labels = torch.tensor([0, 2])
    lesson = 1000.0 * F.one_hot(labels, 3)
    logits = torch.randn(2, 3)
    plain = F.cross_entropy(logits, labels)
    settings = replace(QUICK, temperature=1.0)
    torch.testing.assert_close(taught_loss(logits, labels, lesson, settings), plain)


def test_totals_are_of_the_steps_since_they_were_asked() -> None:
    stepper, (images, labels) = Stepper(made(), QUICK, CPU), batch()
    stepper.set_rate(0.0)
    stepper.step(images, labels, ALL, None)
    first = stepper.totals()
    stepper.step(images, labels, WIDEST, None)
    assert stepper.totals() == pytest.approx(first)
    assert stepper.totals() == (0.0, 0.0)


def test_latent_weights_stay_within_one() -> None:
    net, (images, labels) = made(), batch()
    stepper = Stepper(net, QUICK, CPU)
    stepper.set_rate(5.0)
    stepper.step(images, labels, ALL, None)
    weights = [p for name, p in net.named_parameters() if name.endswith("conv.weight")]
    assert all(float(weight.detach().abs().max()) <= 1.0 for weight in weights)


def test_a_processor_that_is_not_here_is_refused() -> None:
    with pytest.raises(UsageError, match="--device: 'tpu' is unknown; known: auto, cpu, cuda"):
        processor("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--device: this machine has no CUDA device"):
            processor("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_recorded_steps_are_the_eager_ones() -> None:
    images, labels = batch("cuda")
    states = []
    for graphs in (False, True):
        net = made("cuda")
        stepper = Stepper(net, QUICK, Processor(torch.device("cuda"), graphs))
        for step in range(6):
            stepper.set_rate(0.01 / (step + 1))
            stepper.step(images, labels, (WIDEST, ALL)[step % 2], None)
        states.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(states[0], states[1], atol=1e-3, rtol=1e-3)
