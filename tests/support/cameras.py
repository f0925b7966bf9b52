"""What stands for cameras: generated videos, and a server of MJPEG over HTTP."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.data.sample import sample_digits

Pixels = npt.NDArray[np.uint8]
Codec = Literal["mjpeg", "libx264"]
RATE = 10  # frames a second of generated videos


def page(index: int, size: tuple[int, int] = (640, 480)) -> Pixels:
    """Digit ``index`` of the sample as dark ink on a light page (H, W)."""
    width, height = size
    side = height // 2
    ink = np.asarray(Image.fromarray(sample_digits()[0][index]).resize((side, side)))
    pixels = np.full((height, width), 225, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] -= (ink * (190 / 255)).astype(np.uint8)
    return pixels


def jpeg(pixels: Pixels) -> bytes:
    """The picture as a JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_video(path: Path, frames: Iterable[Pixels], codec: Codec = "mjpeg") -> Path:
    """Grey frames (H, W) as a video of ``RATE`` frames a second."""
    mjpeg = codec == "mjpeg"
    drawn = list(frames)
    with av.open(str(path), "w") as container:
        options = {"qscale": "2"} if mjpeg else {"crf": "12"}
        stream = container.add_stream("mjpeg" if mjpeg else "libx264", rate=RATE, options=options)
        stream.height, stream.width = drawn[0].shape
        stream.pix_fmt = "yuvj420p" if mjpeg else "yuv420p"
        for pixels in drawn:
            colour = np.repeat(pixels[:, :, None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(colour, format="rgb24")))
        container.mux(stream.encode())
    return path


@dataclass
class MjpegCamera:
    """A camera on the network: ``frames`` again and again, to everyone who connects.

    ``breaks_after`` frames it ends a connection, as a camera that is started anew does.
    """

    frames: Sequence[bytes]
    period_s: float = 0.02
    breaks_after: int = 0
    address: str = ""
    connections: int = 0
    sent: int = 0


@contextmanager
def serve_mjpeg(camera: MjpegCamera) -> Iterator[MjpegCamera]:
    """Serve ``camera`` over HTTP while the block runs."""
    stopping = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            camera.connections += 1
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                self._stream()
            except OSError:
                return  # the client has gone

        def _stream(self) -> None:
            here = 0
            while not stopping.is_set() and (not camera.breaks_after or here < camera.breaks_after):
                data = camera.frames[camera.sent % len(camera.frames)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                camera.sent += 1
                here += 1
                time.sleep(camera.period_s)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    camera.address = f"http://127.0.0.1:{server.server_port}/video.mjpg"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield camera
    finally:
        stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
