"""Measures pictures a second of a video with the real client, all on the core of this process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.cameras import page, write_video
from tests.support.processes import ROOT, environment

FRAMES = 300
DIGITS = 10  # number of sample digits that are shown in turn


def live_fps(model: str, server: str) -> float:
    """Return the answers a second for a video of 640x480 MJPEG, from the first to the last.

    Every picture is decoded, its ink is found and centred, the device half is computed, and the
    bits are sent to the cloud and answered.
    """
    with tempfile.TemporaryDirectory() as folder:
        frames = [page(number % DIGITS) for number in range(FRAMES)]
        path = write_video(Path(folder) / "digits.avi", frames)
        command = [sys.executable, "-m", "device.client", "--server", server, "--model", model]
        command += ["--fraction", "1.0", "--no-exit", "--output", "jsonl", "--input", str(path)]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if process.stdout is None:
            raise RuntimeError("no output")
        with process.stdout:
            begin_s, answered = 0.0, 0
            for line in process.stdout:
                begin_s = begin_s or time.perf_counter()
                answered += json.loads(line)["source"] == "cloud"
            seconds = time.perf_counter() - begin_s
        if process.wait() or answered != FRAMES:
            raise RuntimeError(f"{answered} of {FRAMES} pictures were answered")
    return (FRAMES - 1) / seconds
