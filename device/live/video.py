"""Frames of a camera, a video file or an address, decoded by PyAV (extra ``video``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from device.energy.clock import boot_s
from device.live.choosing import Every
from device.live.sources import camera_number, is_address, is_endless, shown
from shared.command import needing_extra
from shared.errors import ImageError
from shared.images.decoding import LARGEST_IMAGE_PIXELS, Decoded
from shared.images.values import Bytes
from shared.loopback import is_loopback

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

OPEN_S, READ_S = 5.0, 10.0  # time limits for opening an address and for receiving more data


class Video:
    """The frames of ``source`` from its present position: grey (H, W, 1) or colour (H, W, 3).

    Frames that ``every`` does not accept are not converted, and not even decoded if frames are
    coded independently. ``finite`` tells, once the source is open, whether it has a regular end.
    """

    def __init__(self, source: str, colour: bool, every: Every | None) -> None:
        self._source = source
        self._format = "rgb24" if colour else "gray"
        self._every = every
        self.finite = False

    def frames(self) -> Iterator[tuple[int, Decoded]]:
        """Yield (number, frame) of every accepted frame; ``ImageError`` if there are no (more)."""
        with needing_extra("video", "--input"):
            import av
        name = shown(self._source)
        try:
            with _open(self._source) as container:
                if not container.streams.video:
                    raise ImageError(f"--input: {name} has no video")
                self.finite = container.duration is not None or not is_endless(self._source)
                yield from self._decoded(container, name)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ImageError(f"--input: {name} cannot be read ({reason})") from None

    def _decoded(self, container: InputContainer, name: str) -> Iterator[tuple[int, Decoded]]:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO" if self.finite else "SLICE"  # threads by frame add delay
        single = stream.codec_context.codec.intra_only
        live, number = not self.finite, 0
        for packet in container.demux(stream):
            time_s = _packet_s(packet, live)
            if single and packet.size and not self._wanted(time_s):
                number += 1
                continue
            for frame in packet.decode():
                here_s = time_s if live or frame.time is None else frame.time
                if single or self._wanted(here_s):
                    yield number, self._converted(frame, name)
                number += 1

    def _wanted(self, time_s: float) -> bool:
        return self._every is None or self._every.wants(time_s)

    def _converted(self, frame: av.VideoFrame, name: str) -> Decoded:
        if frame.width * frame.height > LARGEST_IMAGE_PIXELS:
            raise ImageError(f"--input: {name} has more than {LARGEST_IMAGE_PIXELS} pixels a frame")
        pixels: Bytes = np.asarray(frame.to_ndarray(format=self._format), dtype=np.uint8)
        turns = round(getattr(frame, "rotation", 0) / 90) % 4  # e.g. of a phone held upright
        pixels = np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
        height, width = pixels.shape[:2]
        return Decoded(pixels.reshape(height, width, -1), None, (width, height))


def _open(source: str) -> InputContainer:
    import av

    camera = camera_number(source)
    if camera is not None:
        return av.open(f"/dev/video{camera}", format="v4l2")
    options = {}
    if is_address(source):
        address = urlsplit(source)
        if address.scheme.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # so that lost packets do not damage frames
        elif is_loopback(address.hostname or ""):
            options["http_proxy"] = ""
        return av.open(source, options=options, timeout=(OPEN_S, READ_S))
    return av.open(source)


def _packet_s(packet: av.Packet[av.VideoStream], live: bool) -> float:
    """Return the time of a frame: now for a live source, else by the file's clock."""
    if live or packet.pts is None or packet.time_base is None:
        return boot_s()
    return float(packet.pts * packet.time_base)
