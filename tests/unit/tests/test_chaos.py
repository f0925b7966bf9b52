"""The plan that a seed makes, and the book of samples: that it can find fault."""

from __future__ import annotations

from device.split.outbox import LateAnswer
from tests.chaos.deployment import NETWORKS, PROGRAMS
from tests.chaos.plan import Event, Fault, make_plan
from tests.chaos.samples import Book, Count
from tests.support.devices import expected


def plan(seed: int, seconds: float = 60.0) -> list[Event]:
    return make_plan(seed, seconds, PROGRAMS, NETWORKS)


def test_a_seed_makes_one_plan_in_which_everything_happens() -> None:
    for seed in range(20):
        events = plan(seed)
        assert events == plan(seed)
        assert {event.target for event in events if event.fault is Fault.KILL} == set(PROGRAMS)
        assert {event.fault for event in events} == set(Fault)
        times = [event.at_s for event in events]
        assert times == sorted(times)
        assert times[-1] < 60
    assert plan(1) != plan(2)


def test_the_short_run_of_the_tests_has_everything() -> None:
    from tests.integration.test_chaos import SEED

    events = plan(SEED, 12.0)
    assert {event.target for event in events if event.fault is Fault.KILL} >= {
        *("broker", "controller", "fleet"),
    }
    assert {event.fault for event in events} == set(Fault)


def late(number: int, sample: int) -> LateAnswer:
    return LateAnswer(number, "m", "v", 0, expected()[sample], 0, 0.0)


def count(book: Book) -> Count:
    book.asked = 3
    return book.close()


def book(*samples: int) -> Book:
    made = Book(images=200)
    for sample in samples:
        made.answered(sample, expected()[sample])
    return made


def test_the_book_counts_what_is_missing_double_and_wrong() -> None:
    assert count(book(0, 1, 2)).right
    assert count(book(0, 2)).missing == 1
    assert count(book(0, 1, 2, 2)).double == 1
    wrong = book(0, 1)
    wrong.answered(2, expected()[2] + 1)
    assert count(wrong).wrong == 1


def test_a_late_answer_counts_once_and_a_second_one_is_found() -> None:
    waited = book(0, 1)
    waited.waiting[7] = 2
    waited.late.append(late(7, 2))
    assert count(waited).right
    waited = book(0, 1)
    waited.waiting[7] = 2
    waited.late += [late(7, 2), late(7, 2)]
    assert count(waited).double == 1
    stray = book(0, 1, 2)
    stray.late.append(late(9, 2))
    assert count(stray).double == 1
