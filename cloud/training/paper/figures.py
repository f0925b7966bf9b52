"""The paper's figures: for each line the network, the training regime and the colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cloud.training.paper.recipes import recipe
from cloud.training.paper.runs import Experiment
from shared.errors import UsageError

MLP_RANGES = "0-0.2:linear,0.2-0.5:linear,0.5-1:linear"
VGG_RANGES = "0-0.2:linear,0.2-1:linear"


@dataclass(frozen=True)
class Line:
    """One line of a figure: a regime, its options, and a colour."""

    regime: str
    profile: str | None = None
    ranges: str | None = None
    colour: str = "C0"
    start: str | None = None  # regime whose trained network this training starts from
    recipe: Mapping[str, Any] = field(default_factory=dict)  # overrides values of the network's
    per_block: bool = False  # option of the regime idp


@dataclass(frozen=True)
class Plan:
    """A figure: its title, its network and its lines by name."""

    title: str
    network: str
    lines: Mapping[str, Line]

    def experiment(self, line: str, changes: Mapping[str, Any]) -> Experiment:
        """Return the experiment for ``line``, with ``changes`` to the network's recipe."""
        entry = self.lines[line]
        usual = replace(recipe(self.network), **changes)
        start = None if entry.start is None else Experiment(self.network, entry.start, usual)
        chosen = replace(usual, **{**entry.recipe, **changes})
        return Experiment(
            self.network,
            entry.regime,
            chosen,
            entry.profile,
            entry.ranges,
            start,
            entry.per_block,
        )


STANDARD = {"standard": Line("standard", colour="#777777")}
LINEAR = {"linear": Line("idp", "linear", colour="#1f6fb4")}
SANDWICH = {"sandwich": Line("sandwich", colour="#c8432b")}


def _multi(ranges: str, **recipe: Any) -> dict[str, Line]:
    line = Line("multi-profile", ranges=ranges, colour="#2b8a57", recipe=recipe)
    return {"multi-profile": line}


VGG_MULTI = _multi(VGG_RANGES, epochs=6)
# For large networks, the sandwich training starts from the trained complete network
# (as in "Once-for-All", arXiv 1908.09791).
LARGE_SANDWICH = {
    "sandwich": replace(
        SANDWICH["sandwich"],
        start="standard",
        recipe={"epochs": 6, "learning_rate": 0.05, "resolution": "full"},
    )
}


PLANS: dict[str, Plan] = {
    "profiles": Plan(
        "Profiles compared, MLP on MNIST",
        "mlp",
        {
            "all-one (standard)": Line("standard", colour="#777777"),
            "all-one, truncated in training": Line("idp", "all-one", colour="#b0a040"),
            "harmonic": Line("idp", "harmonic", colour="#2b8a57"),
            "linear": Line("idp", "linear", colour="#1f6fb4"),
            "half-exp": Line("idp", "half-exp", colour="#8a4fb0"),
        },
    ),
    "mlp": Plan("MLP on MNIST", "mlp", {**STANDARD, **LINEAR, **_multi(MLP_RANGES), **SANDWICH}),
    "vgg16": Plan(
        "VGG-16 on CIFAR-10", "vgg16", {**STANDARD, **LINEAR, **VGG_MULTI, **LARGE_SANDWICH}
    ),
    "mobilenet": Plan(
        "MobileNet on CIFAR-10", "mobilenet", {**STANDARD, **LINEAR, **LARGE_SANDWICH}
    ),
    "binarynet": Plan(
        "Binarized network on MNIST", "binarynet", {**STANDARD, **LINEAR, **SANDWICH}
    ),
    "mlp-multi": Plan("Three profiles, MLP on MNIST", "mlp", {**LINEAR, **_multi(MLP_RANGES)}),
    "vgg16-multi": Plan("Two profiles, VGG-16 on CIFAR-10", "vgg16", {**LINEAR, **VGG_MULTI}),
    # Networks and training settings of the paper's research code.
    "mlp-paper": Plan(
        "MLP on MNIST as in the research code: trained complete, with coefficients only",
        "mlp-paper",
        {
            **STANDARD,
            "harmonic": Line("standard", "harmonic", colour="#2b8a57"),
            "linear": Line("standard", "linear", colour="#1f6fb4"),
            "half-exp": Line("standard", "half-exp", colour="#8a4fb0"),
        },
    ),
    "vgg16-paper": Plan(
        "VGG-16 on CIFAR-10 as in the research code",
        "vgg16-paper",
        {**STANDARD, "linear": replace(LINEAR["linear"], per_block=True)},
    ),
    "binarynet-paper": Plan(
        "Binarized network on MNIST as in the research code",
        "binarynet-paper",
        {**STANDARD, **LINEAR},
    ),
}


def plan(name: str) -> Plan:
    """Return the figure of that name; ``UsageError`` lists the known ones."""
    if name not in PLANS:
        raise UsageError(f"FIGURE: {name!r} is unknown; known: {', '.join(PLANS)}, all")
    return PLANS[name]
