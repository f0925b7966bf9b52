"""Descriptions of split networks: what is allowed, what a file holds, what they cost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cloud.training.split.architectures import ARCHITECTURES, colour, wide_colour
from shared.errors import BundleError
from shared.model.architecture import Activation, Architecture, Shape

COLOUR = Shape(32, 32, 3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_json_and_back(name: str) -> None:
    made = ARCHITECTURES[name](COLOUR, 10)
    assert Architecture.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_descriptions_of_earlier_releases_are_binary() -> None:
    value = colour(COLOUR, 10).to_json()
    assert "activation" not in json.dumps(value)
    assert Architecture.from_json(value) == colour(COLOUR, 10)


def test_ternary_activations_are_written_by_name_and_binary_ones_not() -> None:
    cloud = json.loads(json.dumps(wide_colour(COLOUR, 10).to_json()))["cloud"]
    assert [stage.get("activation") for stage in cloud] == ["ternary"] * 3 + [None]


def test_unknown_activation_is_refused() -> None:
    value = wide_colour(COLOUR, 10).to_json()
    value["cloud"][0]["activation"] = "quaternary"
    with pytest.raises(BundleError, match="quaternary"):
        Architecture.from_json(value)


@pytest.mark.parametrize("half", ["device", "cloud"])
def test_ternary_belongs_inside_the_cloud(half: str) -> None:
    made = wide_colour(COLOUR, 10)
    stages = getattr(made, half)
    last = replace(stages[-1], activation=Activation.TERNARY)
    with pytest.raises(BundleError, match=f"{last.name} must be binary"):
        replace(made, **{half: (*stages[:-1], last)})  # type: ignore[arg-type]


def test_each_cloud_stage_knows_its_input() -> None:
    ternary = Activation.TERNARY
    assert wide_colour(COLOUR, 10).cloud_inputs == (Activation.BINARY, ternary, ternary, ternary)


def test_wide_colour_fits_the_device() -> None:
    made = wide_colour(COLOUR, 10)
    assert made.device_macs(len(made.device_levels) - 1) <= 120e6
    assert made.sent_shape(len(made.device_levels) - 1) == Shape(8, 8, 96)
