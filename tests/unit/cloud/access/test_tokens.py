"""Tokens: who is let in, what a wrong file says, and that no secret stays or shows."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cloud.access.security import Tokens, parse_tokens
from shared.errors import UnauthenticatedError, UsageError

SECRET = "a-token-of-more-than-16"
OTHER = "another-token-of-more-than-16"


def test_owners_comments_and_empty_lines() -> None:
    owners = parse_tokens(f"# devices\n\n gate-1 {SECRET} \ngate-2\t{OTHER}\n".encode())
    assert sorted(owners.values()) == ["gate-1", "gate-2"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "has no token"),
        ("# nobody\n", "has no token"),
        (f"gate-1 {SECRET}\ngate-2\n", "line 2"),
        ("gate-1 short\n", "line 1"),
        (f"gate-1 {SECRET} more\n", "line 1"),
        (f"{SECRET}\n", "line 1"),
    ],
)
def test_a_wrong_file_names_its_line_and_shows_no_secret(text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named) as raised:
        parse_tokens(text.encode())
    assert "--token-file" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_who_is_let_in(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"gate-1 {SECRET}\ngate-2 {OTHER}\n")
    tokens = Tokens(path)
    for header in (f"Bearer {SECRET}", f"bearer  {SECRET}", f"BEARER {SECRET} ".encode()):
        assert tokens.owner(header) == "gate-1"
    assert tokens.owner(f"Bearer {OTHER}") == "gate-2"


@pytest.mark.parametrize(
    "header",
    [None, "", SECRET, "Bearer", "Bearer ", f"Basic {SECRET}", f"Bearer {SECRET}x", b"Bearer \xff"],
)
def test_who_is_not(header: str | bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"gate-1 {SECRET}\n")
    with pytest.raises(UnauthenticatedError) as raised:
        Tokens(path).owner(header)
    assert SECRET not in str(raised.value)


def test_no_token_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"gate-1 {SECRET}\n")
    assert SECRET not in repr(vars(Tokens(path)))
    assert SECRET.encode() not in b"".join(parse_tokens(path.read_bytes()))


def test_a_file_that_becomes_wrong_leaves_the_tokens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"gate-1 {SECRET}\n")
    tokens = Tokens(path)
    assert not tokens.reload()
    replace(path, f"gate-1 {OTHER} {SECRET}\n")
    with caplog.at_level(logging.WARNING):
        assert not tokens.reload()
    assert "line 1" in caplog.text
    assert SECRET not in caplog.text
    assert tokens.owner(f"Bearer {SECRET}") == "gate-1"
    replace(path, f"gate-1 {OTHER}\n")
    assert tokens.reload()
    with pytest.raises(UnauthenticatedError):
        tokens.owner(f"Bearer {SECRET}")
    path.unlink()
    assert not tokens.reload()
    assert tokens.owner(f"Bearer {OTHER}") == "gate-1"


def replace(path: Path, text: str) -> None:
    """Put another file in the place of ``path``."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
