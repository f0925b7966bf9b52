"""Pictures a second of a video at the real client, all stages on the core of this process."""

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
DIGITS = 10  # of the sample, shown in turn


def live_fps(model: str, server: str) -> float:
    """Answers a second to a video of 640x480 MJPEG, from the first answer to the last.

    Every picture is decoded, its ink found and set, half of the network computed, its bits sent
    and answered by the cloud.
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
