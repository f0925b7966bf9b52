"""The MLP of the paper: 784 -> 100 -> 100 -> 10 on MNIST, the middle layer incomplete."""

from __future__ import annotations

from shared.networks.blocks import Classifier, LinearBlock
from shared.networks.incomplete import BlockNetwork, Scheme


class Mlp(BlockNetwork):
    """Three linear layers; the first and the last are complete.

    At a fraction the first layer computes only the outputs that the middle one uses. The middle
    layer computes all its outputs, since the last one is complete. In the paper the blocks have
    batch norms; its research code (kunglab/idp) has none here. Source: section IV of arXiv
    1710.07830.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        scheme: Scheme,
        hidden: tuple[int, int] = (100, 100),
        *,
        norm: bool = True,
    ) -> None:
        ranges = scheme.ranges
        super().__init__(
            scheme,
            first=[
                LinearBlock(in_features, hidden[0], scheme, complete=True, norm=norm)
                for _ in ranges
            ],
            middle=[LinearBlock(hidden[0], hidden[1], scheme, all_outputs=True, norm=norm)],
            last=[Classifier(hidden[1], classes, scheme, complete=True) for _ in ranges],
        )
