"""An own split network in Python: described, trained, exported, measured, without any command.

    python docs/examples/own_architecture.py --output mine.safetensors

It learns the digits that ship with the package; give your own imported data set with --data.
"""

import argparse
from pathlib import Path

from cloud.training.data.datasets import SPLITS, Dataset, Splits, splits_of
from cloud.training.evaluation.measuring import evaluate
from cloud.training.library import train
from cloud.training.split.network_file import load_network, save_network
from cloud.training.split.settings import Settings
from shared.data.sample import sample_digits
from shared.model.architecture import Activation, Architecture, Kind, Shape, Stage
from shared.model.bundle import write_bundle

PARTS = {"train": slice(0, 120), "validation": slice(120, 160), "test": slice(160, 200)}


def mine(shape: Shape, classes: int) -> Architecture:
    """Two stages on the device, one with ternary activations and the classifier in the cloud."""
    return Architecture(
        name="mine",
        input_shape=shape,
        classes=classes,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, shape.channels, 16, pool=2, step=8),
            Stage("conv2", Kind.BINARY_CONV, 16, 16, pool=2, step=1),
        ),
        cloud=(
            Stage("conv3", Kind.BINARY_CONV, 16, 32, 2, 8, "linear", Activation.TERNARY),
            Stage("classify", Kind.BINARY_LINEAR, 32, classes),
        ),
        device_levels=(0.25, 0.5, 1.0),
        cloud_levels=(0.5, 1.0),
        exit_head=True,
    )


def digits(split: str) -> Dataset:
    """A split of the 200 digits of the package."""
    images, labels = sample_digits()
    names, part = tuple("0123456789"), PARTS[split]
    return Dataset("digits", images[part, ..., None], labels[part].astype("int64"), names, split)


def main() -> None:
    """Train, export, and print what the bundle is worth."""
    parser = argparse.ArgumentParser(description="An own split network in Python.")
    parser.add_argument("--data", help="an imported data set")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--output", type=Path, default=Path("mine.safetensors"))
    given = parser.parse_args()
    data = splits_of(given.data, given.data_dir) if given.data else Splits(*map(digits, SPLITS))
    network = mine(data.shape, len(data.train.classes))
    settings = Settings(epochs=given.epochs, batch=20, learning_rate=0.01, augment="none")
    report = train(data, network, settings, on_epoch=print)
    write_bundle(report.bundle, given.output)
    weights = given.output.with_suffix(".net")
    save_network(report.net, weights)  # a torch.nn.Module, which load_network gives again
    net = load_network(weights)
    print(f"{sum(weight.numel() for weight in net.parameters())} weights in {weights}")
    found = evaluate(report.bundle, data.test.images, data.test.labels, level=2, cloud_level=1)
    print(f"{given.output}: {100 * found.accuracy:.1f} % of {found.images} pictures right")


if __name__ == "__main__":
    main()
