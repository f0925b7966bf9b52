"""Where a broker is and what it is told, from a command's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UsageError
from shared.fleet.broker import parse_broker


def test_a_password_can_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.write_text("open sesame\n")
    assert parse_broker("mqtt://broker", "me", f"@{path}").password == "open sesame"
    assert parse_broker("mqtt://broker", "me", "open sesame").password == "open sesame"


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--password: .*absent.* cannot be read"):
        parse_broker("mqtt://broker", "me", f"@{tmp_path}/absent")
