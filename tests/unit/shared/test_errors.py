"""The tree in the docstring of ``shared.errors`` is the tree of its classes."""

from __future__ import annotations

import re
from typing import TypeVar

import grpc

from shared import errors
from shared.errors import RequestError, TaperError

E = TypeVar("E", bound=TaperError)
LINE = re.compile(
    r"^    (?P<branch>[ |`-]*)(?P<name>[A-Z]\w+)(?: +exit (?P<exit>\d))? *(?P<text>.*)$"
)


def drawn() -> dict[str, tuple[str, str | None, str]]:
    """By class: its parent's name, its exit status if it is written there, the text beside it."""
    found: dict[str, tuple[str, str | None, str]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.match(line)
        if match:
            depth = len(match["branch"]) // 4
            path[depth:] = [match["name"]]
            found[match["name"]] = (path[depth - 1] if depth else "", match["exit"], match["text"])
    return found


def every(error: type[E]) -> list[type[E]]:
    return [error, *(one for child in error.__subclasses__() for one in every(child))]


def of_the_module() -> list[type[TaperError]]:
    return [error for error in every(TaperError) if error.__module__ == errors.__name__]


def test_the_docstring_draws_every_error_under_its_parent() -> None:
    parents = {error.__name__: error.__bases__[0].__name__ for error in of_the_module()}
    assert {name: parent or "Exception" for name, (parent, _, _) in drawn().items()} == parents


def test_the_docstring_says_the_exit_status() -> None:
    tree = drawn()
    for error in of_the_module():
        name = error.__name__
        while tree[name][1] is None:  # the parent's
            name = tree[name][0]
        assert str(error.exit_status) == tree[name][1]


def test_every_refusal_has_the_grpc_status_that_the_docstring_says() -> None:
    tree = drawn()
    for error in every(RequestError)[1:]:
        assert hasattr(grpc.StatusCode, error.grpc_status)
        assert tree[error.__name__][2].startswith(f"{error.grpc_status}: ")
