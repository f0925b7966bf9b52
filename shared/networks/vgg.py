"""VGG-16 for small images: 13 convolutions in five groups, then FC-512 and a classifier."""

from __future__ import annotations

from itertools import accumulate

from shared.networks.blocks import Classifier, ConvBlock, LinearBlock, MeanOverMap
from shared.networks.incomplete import Block, BlockNetwork, Scheme

GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16(BlockNetwork):
    """VGG-16 with a pooling after every group and a complete first convolution.

    The mean over the last map does nothing for images of 32x32, whose map is one pixel. Sources:
    section IV of arXiv 1710.07830, Simonyan and Zisserman (arXiv 1409.1556).
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        scheme: Scheme,
        groups: tuple[tuple[int, ...], ...] = GROUPS,
        features: int = 512,
        dropout: float = 0.3,
    ) -> None:
        pools = [index == len(group) - 1 for group in groups for index in range(len(group))]
        counts = [count for group in groups for count in group]
        middle: list[Block] = [
            ConvBlock(before, count, scheme, pool=pool)
            for before, count, pool in zip(counts, counts[1:], pools[1:], strict=False)
        ]
        middle += [MeanOverMap(dropout), LinearBlock(counts[-1], features, scheme, dropout=dropout)]
        super().__init__(
            scheme,
            first=[
                ConvBlock(in_channels, counts[0], scheme, pool=pools[0], complete=True)
                for _ in scheme.ranges
            ],
            middle=middle,
            last=[Classifier(features, classes, scheme) for _ in scheme.ranges],
        )


class PaperVgg16(BlockNetwork):
    """VGG-16 as in the paper's research code, with dropout and complete linear layers.

    Dropout follows every convolution except the last of its group: 0.3 in the first group, 0.4 in
    the others. Dropout of 0.5 is before and after FC-512. The last convolution computes all
    outputs, since the linear layers are complete. Source: ``examples/net/VGG.py`` of kunglab/idp.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        scheme: Scheme,
        groups: tuple[tuple[int, ...], ...] = GROUPS,
        features: int = 512,
    ) -> None:
        counts = [in_channels, *(count for group in groups for count in group)]
        ends = list(accumulate(len(group) for group in groups))

        def convolution(index: int) -> ConvBlock:
            pool = index + 1 in ends
            return ConvBlock(
                counts[index],
                counts[index + 1],
                scheme,
                pool=pool,
                complete=index == 0,
                all_outputs=index + 1 == ends[-1],
                dropout=0.0 if pool else 0.3 if index < ends[0] else 0.4,
            )

        linear = LinearBlock(
            counts[-1], features, scheme, complete=True, all_outputs=True, dropout=0.5
        )
        super().__init__(
            scheme,
            first=[convolution(0) for _ in scheme.ranges],
            middle=[*map(convolution, range(1, ends[-1])), MeanOverMap(0.5), linear],
            last=[Classifier(features, classes, scheme, complete=True) for _ in scheme.ranges],
        )
