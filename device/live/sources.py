"""Recognise live inputs by their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

STDIN = "-"
SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "tcp", "udp")
VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts"),
        *(".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".mjpeg", ".mjpg", ".h264", ".264", ".hevc"),
    )
)


@dataclass(frozen=True)
class LiveSettings:
    """Which pictures of live inputs are classified.

    watch      folders of which every picture written or moved there is classified
    every_s    classify one picture in this time; None for all
    on_change  classify only pictures that differ from the last one classified
    patient    wait for sources that are missing or end; otherwise it is an error at the start
    """

    watch: tuple[str, ...] = ()
    every_s: float | None = None
    on_change: bool = False
    patient: bool = False


def camera_number(source: str) -> int | None:
    """Return N of ``camera:N``, 0 for ``camera``, None for anything else."""
    name, colon, number = source.partition(":")
    if name != "camera" or not colon:
        return 0 if name == "camera" else None
    return int(number) if number.isdecimal() and len(number) <= 3 else None


def is_address(source: str) -> bool:
    """Whether ``source`` is the address of a stream."""
    scheme, separator, rest = source.partition("://")
    return bool(separator and rest) and scheme.lower() in SCHEMES


def is_endless(source: str) -> bool:
    """Whether the source produces pictures without end, even if nobody takes them."""
    return camera_number(source) is not None or is_address(source)


def is_live(source: str) -> bool:
    """Whether ``source`` is a camera, an address, a file of video, or standard input."""
    if source == STDIN or is_endless(source):
        return True
    return PurePath(source).suffix.lower() in VIDEO_SUFFIXES


def shown(source: str) -> str:
    """Return the source's name for outputs and logs, without the password of an address."""
    scheme, separator, rest = source.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path
