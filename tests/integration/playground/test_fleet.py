"""A browser as a member of a fleet: a broker with TLS, passwords, rules and WebSockets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloud.fleet.__main__ import main
from cloud.playground.application import LIBRARY, STATIC
from cloud.playground.enrolment import Enrolments
from device.web.broker_library import is_library
from shared.errors import UnauthenticatedError, UsageError
from shared.fleet.codes import code_file, new_code

FLEET = "city"


def test_a_code_is_good_once_and_not_for_long(tmp_path: Path) -> None:
    code = new_code()
    content = {"fleet": FLEET, "device": "one", "user": "city/one", "password": "x"}
    waiting = Enrolments(tmp_path)
    for until, good in ((2e10, True), (1.0, False)):
        path = code_file(tmp_path, code)
        path.write_text(json.dumps({**content, "until_unix_s": until}))
        assert code not in path.name
        if good:
            assert waiting.redeem(code.lower().replace("-", " ")) == content
        for _ in range(2):
            with pytest.raises(UnauthenticatedError, match="is not known, was used, or is too old"):
                waiting.redeem(code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a b",), "DEVICE: 'a b' is no name"),
        (("one", "--valid", "soon"), "--valid: 'soon' is not allowed"),
        (("one",), "passwords is missing; deploy/mosquitto/provision.py makes it"),
    ],
)
def test_what_cannot_be_enrolled_is_one_line(
    words: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["enrol", *words, "--folder", str(tmp_path)])
    assert ended.value.code == UsageError.exit_status
    assert says in capsys.readouterr().err


def test_the_library_for_brokers_is_the_version_that_is_wanted() -> None:
    library = STATIC / "device" / LIBRARY
    assert not library.exists() or is_library(library)
