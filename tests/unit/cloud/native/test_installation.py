"""What an installation without the compiled module does."""

from __future__ import annotations

import subprocess
import sys

from shared.errors import UsageError


def test_without_its_compiled_core_a_server_says_so_in_one_line() -> None:
    code = (
        "import sys; sys.modules['cloud.native._core'] = None\n"
        "from cloud.server import main; main(['--host', '127.0.0.1', '--port', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == UsageError.exit_status
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: server: its compiled scheduler cannot be used")
