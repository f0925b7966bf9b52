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
    # Stored records of roll-outs hold floats.
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
    """The settings of the fleet contract."""

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
        """Return the settings that have a value, by name."""
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
    """The rules of a roll-out: a model for more and more devices, as long as it performs well.

    version           first digits of the model's version; "" for that of the first device to take
    it control           share of the devices in the control group, which keep their model to the
    end waves             share of the other devices that have the model after each wave watch
    least seconds for which each wave is watched samples           least samples, in both groups, on
    which a wave is judged

    Tolerated differences from the control group:

    lose_at_most      lower accuracy (0.01 is one percentage point)
    disagree_at_most  higher share of audited samples on which exit head and cloud differ
    shift_at_most     difference in either direction of the share of local answers, and of the exit
                      head's mean confidence
    fail_at_most      higher share of failed samples; also the share of devices that may refuse
    slow_at_most      higher latency, and energy of the work, as a share
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
    """An action on ``target`` (all, a group or a device), ``at`` seconds after the start."""

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
    """A scenario; ``start`` is the time of day at its beginning."""

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
        """Whether the scenario stops and starts the cloud server."""
        return any(event.cloud for event in self.events)


def read_scenario(source: str, flag: str = "SCENARIO") -> FleetScenario:
    """Read the scenario in a file, or the shipped one of that name.

    ``UsageError`` names ``flag`` and the field that is wrong.
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
        # Report an unknown field first, since a misspelt name also causes a missing field.
        found = error.errors()
        first = min(found, key=lambda one: one["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"]) or "scenario"
        raise UsageError(f"{flag}: {source}: {where}: {first['msg']}") from None


def _shipped() -> list[Path]:
    return list((Path(__file__).parent / "scenarios").glob("*.yaml"))
