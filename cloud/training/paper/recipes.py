"""The paper's networks by name, and how each of them is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cloud.training.data.augment import AUGMENTATIONS
from cloud.training.paper.resolution import resolution
from cloud.training.schedules import schedule
from cloud.training.split.architectures import paper
from shared.errors import UsageError
from shared.model.architecture import Shape
from shared.networks.binarized import BinarizedNetwork
from shared.networks.binarized_paper import PaperBinarizedNetwork
from shared.networks.incomplete import IncompleteNetwork, Scheme
from shared.networks.mlp import Mlp
from shared.networks.mobilenet import MobileNet
from shared.networks.vgg import PaperVgg16, Vgg16

Maker = Callable[[Shape, int, Scheme], IncompleteNetwork]
OPTIMISERS = ("sgd", "adam", "momentum")
RESIZABLE = (
    "vgg16",
    "vgg16-paper",
    "mobilenet",
)  # not those with a weight for every pixel or a fixed split


@dataclass(frozen=True)
class Recipe:
    """The training settings of a network; equal recipes and data give equal weights."""

    data: str  # the data set of the paper's figure
    epochs: int  # epochs of each stage
    batch: int
    optimiser: str  # sgd (momentum 0.9, Nesterov), adam or momentum (0.9)
    learning_rate: float
    schedule: str
    weight_decay: float = 0.0
    augment: str = "none"
    resolution: str = "full"  # schedule of the size of training images; tests use full size
    smoothing: float = 0.0  # label smoothing
    bfloat16: bool = False  # of training steps; statistics and tests are in float32
    seed: int = 1
    calibration_images: int = 8192

    def __post_init__(self) -> None:
        schedule(self.schedule)
        resolution(self.resolution)
        for flag, value, known in (
            ("--optimiser", self.optimiser, OPTIMISERS),
            ("--augment", self.augment, tuple(AUGMENTATIONS)),
        ):
            if value not in known:
                raise UsageError(f"{flag}: {value!r} is unknown; known: {', '.join(known)}")
        for flag, rate in (
            ("--learning-rate", self.learning_rate),
            ("--weight-decay", self.weight_decay),
        ):
            if not math.isfinite(rate) or rate < 0:
                raise UsageError(f"{flag}: {rate} is no finite number of at least 0")
        if self.epochs < 1 or self.batch < 2:
            raise UsageError("--epochs must be at least 1 and --batch at least 2")


def mlp(shape: Shape, classes: int, scheme: Scheme) -> Mlp:
    """Multilayer perceptron 784 -> 100 -> 100 -> 10."""
    return Mlp(shape.size, classes, scheme)


def paper_mlp(shape: Shape, classes: int, scheme: Scheme) -> Mlp:
    """Multilayer perceptron 784 -> 100 -> 100 -> 10 without batch norm, as in the research code."""
    return Mlp(shape.size, classes, scheme, norm=False)


def vgg16(shape: Shape, classes: int, scheme: Scheme) -> Vgg16:
    """VGG-16 with 13 convolutions and two linear layers."""
    _at_least(shape, 32, "vgg16")
    return Vgg16(shape.channels, classes, scheme)


def paper_vgg16(shape: Shape, classes: int, scheme: Scheme) -> PaperVgg16:
    """VGG-16 with dropout between its 13 convolutions, and two complete linear layers."""
    _at_least(shape, 32, "vgg16-paper")
    return PaperVgg16(shape.channels, classes, scheme)


def mobilenet(shape: Shape, classes: int, scheme: Scheme) -> MobileNet:
    """MobileNet with a convolution, six separable convolutions and a linear layer."""
    return MobileNet(shape.channels, classes, scheme)


def binarynet(shape: Shape, classes: int, scheme: Scheme) -> BinarizedNetwork:
    """The split binary network, truncated in its device half."""
    if len(scheme.ranges) > 1:
        raise UsageError("--regime: binarynet has one profile; multi-profile is not for it")
    return BinarizedNetwork(paper(shape, classes), scheme)


def paper_binarynet(shape: Shape, classes: int, scheme: Scheme) -> PaperBinarizedNetwork:
    """The binary network of the research code, with two convolutions per block."""
    if len(scheme.ranges) > 1:
        raise UsageError("--regime: binarynet-paper has one profile; multi-profile is not for it")
    _at_least(shape, 8, "binarynet-paper")
    image = (shape.channels, shape.height, shape.width)
    return PaperBinarizedNetwork(image, classes, scheme)


NETWORKS: dict[str, tuple[Maker, Recipe]] = {
    "mlp": (mlp, Recipe("mnist", 40, 128, "sgd", 0.05, "one-cycle", weight_decay=5e-4)),
    "vgg16": (
        vgg16,
        Recipe(
            "cifar10",
            20,
            128,
            "sgd",
            0.1,
            "one-cycle",
            weight_decay=5e-4,
            augment="flip-and-shift",
            resolution="growing",
            smoothing=0.1,
            bfloat16=True,
        ),
    ),
    "mobilenet": (
        mobilenet,
        Recipe(
            "cifar10",
            20,
            128,
            "sgd",
            0.1,
            "one-cycle",
            weight_decay=2e-4,
            augment="flip-and-shift",
            resolution="growing",
            bfloat16=True,
        ),
    ),
    "binarynet": (binarynet, Recipe("mnist", 15, 256, "adam", 0.003, "one-cycle")),
    # The settings of the research code, except for the epochs of `vgg16-paper` (there 70).
    "mlp-paper": (paper_mlp, Recipe("mnist", 30, 128, "momentum", 0.05, "halving")),
    "vgg16-paper": (
        paper_vgg16,
        Recipe(
            "cifar10",
            20,
            256,
            "momentum",
            0.05,
            "halving",
            weight_decay=5e-4,
            bfloat16=True,
        ),
    ),
    "binarynet-paper": (
        paper_binarynet,
        Recipe("mnist", 50, 256, "adam", 0.003, "constant", bfloat16=True),
    ),
}

# Size of test batches for batch statistics: 256 in the research code, except for the MLP.
TEST_BATCHES = {"mlp": 128, "mlp-paper": 128}
TEST_BATCH = 256


def recipe(network: str) -> Recipe:
    """Return the recipe of ``network``; ``UsageError`` lists the known networks."""
    return _entry(network)[1]


def test_batch(network: str) -> int:
    """Return the size of test batches for batch statistics of ``network``."""
    return TEST_BATCHES.get(network, TEST_BATCH)


def build(network: str, shape: Shape, classes: int, scheme: Scheme) -> IncompleteNetwork:
    """Build ``network`` for images of ``shape``; ``UsageError`` lists the known networks."""
    return _entry(network)[0](shape, classes, scheme)


def _entry(network: str) -> tuple[Maker, Recipe]:
    if network not in NETWORKS:
        raise UsageError(
            f"--network: {network!r} is unknown; known networks: {', '.join(NETWORKS)}"
        )
    return NETWORKS[network]


def _at_least(shape: Shape, side: int, network: str) -> None:
    if min(shape.height, shape.width) < side:
        raise UsageError(
            f"--data: images of {shape.height}x{shape.width} are too small for {network}; "
            f"it takes {side}x{side} and larger"
        )
