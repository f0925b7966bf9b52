"""Which inputs are live, and how they are named; every client asks this."""

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
    """Which pictures of live inputs are answered.

    watch      folders: every picture that is written or moved there
    every_s    one picture in this time; None for all that come
    on_change  only pictures that differ from the last one answered
    patient    wait for sources that are not there, or end; else that is an error at the start
    """

    watch: tuple[str, ...] = ()
    every_s: float | None = None
    on_change: bool = False
    patient: bool = False


def camera_number(source: str) -> int | None:
    """N of ``camera:N``, 0 of ``camera``; None for anything else."""
    name, colon, number = source.partition(":")
    if name != "camera" or not colon:
        return 0 if name == "camera" else None
    return int(number) if number.isdecimal() and len(number) <= 3 else None


def is_address(source: str) -> bool:
    """Whether ``source`` is the address of a stream."""
    scheme, separator, rest = source.partition("://")
    return bool(separator and rest) and scheme.lower() in SCHEMES


def is_endless(source: str) -> bool:
    """Whether pictures come for as long as one waits, whoever is there to take them."""
    return camera_number(source) is not None or is_address(source)


def is_live(source: str) -> bool:
    """Whether ``source`` is a camera, an address, a file of video, or standard input."""
    if source == STDIN or is_endless(source):
        return True
    return PurePath(source).suffix.lower() in VIDEO_SUFFIXES


def shown(source: str) -> str:
    """The source for outputs and logs: without the password of an address."""
    scheme, separator, rest = source.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path
