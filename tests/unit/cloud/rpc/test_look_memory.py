"""What a stream remembers of looks: enough to refuse wrong ones, and nothing that is needed."""

from __future__ import annotations

import pytest

from cloud.rpc.look_memory import MOST, LookMemory
from shared.errors import InvalidRequestError
from shared.protocol.looks import KEEP_MS

VERSION, OTHER = "a" * 64, "b" * 64


def test_a_second_look_that_was_asked_for_is_known() -> None:
    memory = LookMemory()
    memory.asked(7, VERSION)
    assert memory.looked(7, VERSION)
    assert not memory.looked(8, VERSION)


def test_a_second_look_that_comes_twice_is_refused() -> None:
    memory = LookMemory()
    memory.asked(7, VERSION)
    memory.looked(7, VERSION)
    with pytest.raises(InvalidRequestError, match="looks: request 7 has had its second look"):
        memory.looked(7, VERSION)


def test_a_second_look_of_another_version_is_refused() -> None:
    memory = LookMemory()
    memory.asked(7, VERSION)
    with pytest.raises(InvalidRequestError, match="looks: the first look of request 7"):
        memory.looked(7, OTHER)
    assert memory.looked(7, VERSION)


def test_what_is_old_or_too_much_is_forgotten_and_may_come_all_the_same() -> None:
    now_s = 0.0
    memory = LookMemory(lambda: now_s)
    memory.asked(1, VERSION)
    now_s = KEEP_MS / 1000 + 1
    assert not memory.looked(1, OTHER)
    for number in range(MOST + 1):
        memory.asked(number, VERSION)
    assert not memory.looked(0, OTHER)
    assert memory.looked(MOST, VERSION)


def test_an_id_that_is_used_again_starts_anew() -> None:
    memory = LookMemory()
    memory.asked(7, VERSION)
    memory.looked(7, VERSION)
    memory.asked(7, OTHER)
    assert memory.looked(7, OTHER)
