"""Scenarios: the shipped ones are right, and a mistake is one line that names the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.fleet.__main__ import main
from cloud.fleet.operate import parse_changes
from device.energy.recharge import parse_recharge
from shared.energy.hardware import find_hardware
from shared.errors import UsageError
from shared.fleet.scenario import read_scenario

GOOD = "name: a\nduration: 1h\n"
WRONG = {
    "a typo": ("name: a\nduratoin: 1h\n", "duratoin"),
    "no time": ("name: a\nduration: soon\n", "duration"),
    "late event": (GOOD + "events: [{at: 2h, battery: 0.5}]\n", "after the end"),
    "two actions": (GOOD + "events: [{at: 1m, battery: 0.5, cloud: stop}]\n", "exactly one"),
    "unknown setting": (GOOD + "settings: {colour: red}\n", "colour"),
    "a fraction of 2": (GOOD + "settings: {fraction: 2}\n", "fraction"),
    "shares": (GOOD + "groups: [{name: x, share: 0.5}]\n", "add up"),
    "no YAML": ("a: [", "no YAML"),
    "a list": ("[1]", "scenario"),
    "code": ("!!python/object/apply:os.system ['true']", "no YAML"),
}


@pytest.mark.parametrize("name", ["city-day", "cloud-outage", "bad-rollout"])
def test_shipped_scenarios_can_be_played(name: str) -> None:
    scenario = read_scenario(name)
    assert scenario.name == name
    for group in scenario.groups:
        find_hardware(group.hardware)
        parse_recharge(group.recharge)


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_that_names_the_field(name: str, tmp_path: Path) -> None:
    text, part = WRONG[name]
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=part) as caught:
        read_scenario(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "part"),
    [("fraction=2", "fraction"), ("fraction", "KEY=VALUE"), ("colour=red", "colour"),
     ("rate_per_s=many", "rate_per_s"), ("telemetry_s=0", "0.1 to 86400")],
)  # fmt: skip
def test_a_setting_that_is_not_allowed_is_named(word: str, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        parse_changes([word])


def test_commands_end_with_the_status_of_their_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, status, part in (
        (["run", "cloud-outage"], 2, "--serve"),
        (["set", "all", "fraction=0.5", "--broker", "http://x"], 2, "--broker"),
        (["watch", "--broker", "mqtt://127.0.0.1:1"], 3, "--broker: 127.0.0.1:1"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == status
        assert part in capsys.readouterr().err
