"""The paper's small MobileNet: a convolution, six depthwise separable ones, a classifier."""

from __future__ import annotations

from shared.networks.blocks import Classifier, ConvBlock, MeanOverMap, SeparableBlock
from shared.networks.incomplete import Block, BlockNetwork, Scheme

STEM = 64
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1))  # (channels, stride)


class MobileNet(BlockNetwork):
    """MobileNet for 32x32 images; the first convolution is complete.

    Sources: section IV of arXiv 1710.07830, Howard et al. (arXiv 1704.04861).
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        scheme: Scheme,
        stem: int = STEM,
        blocks: tuple[tuple[int, int], ...] = BLOCKS,
    ) -> None:
        middle: list[Block] = []
        before = stem
        for count, stride in blocks:
            middle.append(SeparableBlock(before, count, scheme, stride=stride))
            before = count
        super().__init__(
            scheme,
            first=[ConvBlock(in_channels, stem, scheme, complete=True) for _ in scheme.ranges],
            middle=[*middle, MeanOverMap()],
            last=[Classifier(before, classes, scheme) for _ in scheme.ranges],
        )
