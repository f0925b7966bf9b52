"""Scenarios of a fleet in YAML: its groups of devices, and timed events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from shared.durations import duration_s
from shared.errors import UsageError
from shared.fleet.messages import NAME
from shared.fleet.payloads import check_setting


def _seconds(value: Any) -> float:
    # A float is what a record of a roll-out holds.
    return value if isinstance(value, float) else duration_s(str(value))


def _name(value: Any) -> str:
    if not NAME.fullmatch(str(value)):
        raise ValueError(f"{value!r} is no name of a device or a group")
    return str(value)


Time = Annotated[float, BeforeValidator(_seconds)]
Name = Annotated[str, BeforeValidator(_name)]
Share = Annotated[float, Field(ge=0, le=1)]
Tolerance = Annotated[float, Field(gt=0, le=1)]


class Strict(BaseModel):
    """Base of all parts: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SettingValues(Strict):
    """Settings as in the fleet contract."""

    fraction: str | None = None
    exit_threshold: float | None = None
    rate_per_s: float | None = None
    telemetry_s: float | None = None
    model: str | None = None
    audit_rate: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("fraction"), int | float):
                value = {**value, "fraction": f"{value['fraction']:g}"}
            for name, one in value.items():
                check_setting(name, one)
        return value

    def given(self) -> dict[str, Any]:
        """Return the settings that have a value."""
        return self.model_dump(exclude_none=True)


class Group(Strict):
    """A share of the fleet with the same hardware, batteries and chargers."""

    name: Name
    share: Share = 1.0
    hardware: str = "pi-wifi"
    battery: tuple[Share, Share] = (1.0, 1.0)
    capacity_wh: float | None = Field(None, gt=0)
    recharge: str = "none"


class Rollout(Strict):
    """A model for ever more of the devices, as long as it does well.

    version           of the model, or its first digits; "" for the one that the first device takes
    control           share of the devices that are left as they are until the model is accepted
    waves             share of the others that have it after each wave
    watch             how long each wave is watched at least
    samples           a wave is judged on at least so many, in both groups
    lose_at_most      points of accuracy (0.01 = one of a hundred) below the control group
    disagree_at_most  share of audited samples on which exit head and cloud differ, above it
    shift_at_most     share of local answers, and mean confidence of the exit head, either way
    fail_at_most      share of the samples that fail, above it; and of devices that refuse
    slow_at_most      latency, and energy of the work, as a share above it
    """

    model: Name
    version: str = ""
    control: Share = 0.1
    waves: tuple[Share, ...] = Field((0.05, 0.25, 1.0), min_length=1)
    watch: Time = 600.0
    samples: int = Field(100, ge=1)
    lose_at_most: Tolerance = 0.01
    disagree_at_most: Tolerance = 0.03
    shift_at_most: Tolerance = 0.1
    fail_at_most: Tolerance = 0.02
    slow_at_most: Tolerance = 0.5


class ScenarioEvent(Strict):
    """An action ``at`` a time after the start, on ``target`` (all, a group or a device)."""

    at: Time
    target: Name = Field("all", alias="for")
    set: SettingValues | None = None
    battery: Share | None = None
    cloud: str | None = Field(None, pattern="^(stop|start)$")
    rollout: Rollout | None = None

    @model_validator(mode="after")
    def _one_action(self) -> ScenarioEvent:
        given = [self.set, self.battery, self.cloud, self.rollout]
        if sum(one is not None for one in given) != 1:
            raise ValueError("give exactly one of set, battery, cloud, rollout")
        return self


class FleetScenario(Strict):
    """A scenario; ``start`` is the hour of the day at its beginning."""

    name: Name
    description: str = ""
    duration: Time
    start: Share | float = 0.0
    settings: SettingValues = SettingValues()
    groups: tuple[Group, ...] = (Group(name="devices", capacity_wh=None),)
    events: tuple[ScenarioEvent, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> FleetScenario:
        if abs(sum(group.share for group in self.groups) - 1) > 0.001:
            raise ValueError("groups: their shares do not add up to 1")
        if not 0 <= self.start < 24:
            raise ValueError("start: give an hour from 0 to 24")
        late = [event.at for event in self.events if event.at > self.duration]
        if late:
            raise ValueError(f"events: one at {late[0]:g} s is after the end")
        return self

    @property
    def needs_cloud(self) -> bool:
        """Whether it stops and starts the cloud server."""
        return any(event.cloud for event in self.events)


def read_scenario(source: str, flag: str = "SCENARIO") -> FleetScenario:
    """Return the scenario in a file, or the shipped one of that name.

    ``UsageError`` names the field that is wrong.
    """
    path = Path(source)
    if not path.exists() and NAME.fullmatch(source):
        path = Path(__file__).parent / "scenarios" / f"{source}.yaml"
    try:
        value = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(one.stem for one in _shipped()))
        raise UsageError(
            f"{flag}: {source} cannot be read ({error}); a file, or one of {known}"
        ) from None
    except yaml.YAMLError as error:
        raise UsageError(f"{flag}: {source} is no YAML ({' '.join(str(error).split())})") from None
    try:
        return FleetScenario.model_validate(value)
    except ValidationError as error:
        # A misspelt field first: the missing one is a consequence of it.
        found = error.errors()
        first = min(found, key=lambda one: one["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"]) or "scenario"
        raise UsageError(f"{flag}: {source}: {where}: {first['msg']}") from None


def _shipped() -> list[Path]:
    return list((Path(__file__).parent / "scenarios").glob("*.yaml"))
