"""Read and write networks as TOML files, which list the stages of both halves and the levels.

The data set determines the rest: size and colours of its pictures, number of classes. The input of
the first device stage is pixels. The classifier, which is the last cloud stage, is not listed::

    name = "own"
    device_levels = [0.25, 0.5, 1.0]
    cloud_levels = [0.5, 1.0]
    exit_head = true

    [[device]]        # 3x3 convolutions up to the cut; the last one's bits are sent
    channels = 32
    pool = 2          # side of the max pooling window; 1, the default: none
    stride = 1        # or 2 in place of a pool: halves the map for a quarter of the operations
    step = 16         # channels are cut in whole steps of this many; 8 by default, 1 if sent
    profile = "staircase"    # coefficients of its input channels, but of the first stage

    [[cloud]]
    channels = 128
    activation = "ternary"   # or "binary", the default
    profile = "linear"       # the default of the first cloud stage
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.errors import BundleError, FractionError, UsageError
from shared.model.architecture import (
    LARGEST_SIZE,
    NAME,
    Activation,
    Architecture,
    Kind,
    Shape,
    Stage,
)

TOP = ("name", "device_levels", "cloud_levels", "exit_head", "device", "cloud")
OF_STAGE = ("channels", "pool", "stride", "step", "profile", "activation")
CLASSIFIER = "classify"
DEFAULT_STEP = 8
DEFAULT_PROFILE = "staircase"
FIRST_CLOUD_PROFILE = "linear"


def read_architecture(path: Path, shape: Shape, classes: int) -> Architecture:
    """Read the network in ``path``, for pictures of ``shape`` and ``classes`` classes.

    ``UsageError`` names the file, the stage and the field that is wrong.
    """
    where = f"--architecture: {path}"
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text"
        raise UsageError(f"{where}: cannot be read ({reason})") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: is no TOML ({error})") from None
    _check_keys(value, TOP, where)
    name = value.get("name", path.stem)
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise UsageError(f"{where}: name {name!r} is not allowed; give letters, digits, - and _")
    exit_head = value.get("exit_head", True)
    if not isinstance(exit_head, bool):
        raise UsageError(f"{where}: exit_head is {exit_head!r}; give true or false")
    device = tuple(_stages(value, "device", shape.channels, where))
    cloud = tuple(_stages(value, "cloud", device[-1].out_channels, where, first=len(device) + 1))
    last = Stage(CLASSIFIER, Kind.BINARY_LINEAR, cloud[-1].out_channels, classes)
    try:
        return Architecture(
            name=name,
            input_shape=shape,
            classes=classes,
            device=device,
            cloud=(*cloud, last),
            device_levels=_levels(value, "device_levels", where),
            cloud_levels=_levels(value, "cloud_levels", where),
            exit_head=exit_head,
        )
    except (BundleError, FractionError) as error:
        raise UsageError(f"{where}: {error}") from None


def to_toml(architecture: Architecture) -> str:
    """Return the content of a file from which ``read_architecture`` makes this network."""
    shape = architecture.input_shape
    lines = [
        f"# {shape.height}x{shape.width}x{shape.channels} pictures, {architecture.classes} classes",
        f'name = "{architecture.name}"',
        f"device_levels = {list(architecture.device_levels)}",
        f"cloud_levels = {list(architecture.cloud_levels)}",
        f"exit_head = {str(architecture.exit_head).lower()}",
    ]
    halves = (("device", architecture.device), ("cloud", architecture.cloud[:-1]))
    for half, stages in halves:
        for index, stage in enumerate(stages):
            step, profile = _defaults(half, index, last=index == len(stages) - 1)
            lines += ["", f"[[{half}]]", f"channels = {stage.out_channels}"]
            if stage.pool > 1:
                lines.append(f"pool = {stage.pool}")
            if stage.stride > 1:
                lines.append(f"stride = {stage.stride}")
            if stage.step != step:
                lines.append(f"step = {stage.step}")
            if stage.profile != profile:
                lines.append(f'profile = "{stage.profile}"')
            if stage.activation is not Activation.BINARY:
                lines.append(f'activation = "{stage.activation.value}"')
    return "\n".join(lines) + "\n"


def _defaults(half: str, index: int, *, last: bool) -> tuple[int, str]:
    """Return the default step and profile of a stage."""
    step = 1 if half == "device" and last else DEFAULT_STEP
    first_of_cloud = half == "cloud" and index == 0
    return step, FIRST_CLOUD_PROFILE if first_of_cloud else DEFAULT_PROFILE


def _stages(
    value: Mapping[str, Any], half: str, before: int, where: str, first: int = 1
) -> Iterator[Stage]:
    entries = value.get(half)
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{where}: has no [[{half}]]; give one for each stage of that half")
    for index, entry in enumerate(entries):
        place = f"{where}: [[{half}]] number {index + 1}"
        if not isinstance(entry, dict):
            raise UsageError(f"{place}: is {entry!r}; give fields such as channels = 32")
        _check_keys(entry, OF_STAGE, place)
        step, profile = _defaults(half, index, last=index == len(entries) - 1)
        activation = entry.get("activation", Activation.BINARY.value)
        if activation not in {kind.value for kind in Activation}:
            raise UsageError(
                f"{place}: activation {activation!r} is not allowed; give binary or ternary"
            )
        stage = Stage(
            name=f"conv{first + index}",
            kind=Kind.IMAGE_CONV if half == "device" and not index else Kind.BINARY_CONV,
            in_channels=before,
            out_channels=_whole(entry, "channels", None, place),
            pool=_whole(entry, "pool", 1, place),
            step=_whole(entry, "step", step, place),
            profile=str(entry.get("profile", profile)),
            activation=Activation(activation),
            stride=_whole(entry, "stride", 1, place),
        )
        yield stage
        before = stage.out_channels


def _whole(entry: Mapping[str, Any], field: str, default: int | None, place: str) -> int:
    if field not in entry and default is None:
        raise UsageError(f"{place}: has no {field}; give a whole number")
    value = entry.get(field, default)
    if type(value) is not int or not 1 <= value <= LARGEST_SIZE:
        raise UsageError(f"{place}: {field} is {value!r}; give 1 to {LARGEST_SIZE}")
    return value


def _levels(value: Mapping[str, Any], field: str, where: str) -> tuple[float, ...]:
    given = value.get(field, [1.0])
    if not isinstance(given, list) or not all(type(item) in (int, float) for item in given):
        raise UsageError(f"{where}: {field} is {given!r}; give fractions such as [0.25, 0.5, 1.0]")
    return tuple(float(item) for item in given)


def _check_keys(value: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in value:
        if key not in known:
            raise UsageError(f"{where}: {key} is unknown; known: {', '.join(known)}")
