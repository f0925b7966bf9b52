"""Programs that are started together end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import ROOT

PROGRAM = """
import sys
from pathlib import Path
from together import run_together

folder = Path(sys.argv[1])
say = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
commands = {name: [sys.executable, "-c", say] for name in ("first", "second")}
run_together(commands, folder, "all are there\\n")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_stops_all_of_them(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == "all are there\n"
        logs = [tmp_path / f"{name}.log" for name in ("first", "second")]
        while not all(log.read_text().endswith("\n") for log in logs):
            time.sleep(0.05)
        running.send_signal(number)  # to it alone, not to the whole group as a terminal does
        assert running.wait(60) == 0
        assert running.stdout.read() == "stopping\n"
    for log in logs:
        with pytest.raises(ProcessLookupError):
            os.kill(int(log.read_text()), 0)
