"""Laws of what waits: nothing lost, nothing twice, one key a batch, turns between clients."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud.scheduling.batching import BatchQueue, Item

Requests = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y", "z"]), st.integers(1, 9)),
    max_size=60,
)


def item(number: int, key: str, client: str, samples: int) -> Item[str, int]:
    return Item(key, client, samples, float(number), float("inf"), number)


@given(requests=Requests, max_batch=st.integers(1, 16), dropped=st.sets(st.integers(0, 59)))
def test_every_item_leaves_once(
    requests: list[tuple[str, str, int]], max_batch: int, dropped: set[int]
) -> None:
    queue: BatchQueue[str, int] = BatchQueue(max_batch, 1.0)
    items = [item(number, *request) for number, request in enumerate(requests)]
    for one in items:
        queue.put(one)
    gone = [one.work for one in items if one.work in dropped and queue.drop(one)]
    taken = []
    while batch := queue.take(0.0):
        assert len({one.key for one in batch}) == 1
        samples = sum(one.samples for one in batch)
        assert samples <= max_batch or len(batch) == 1
        taken += [one.work for one in batch]
    assert sorted(taken + gone) == list(range(len(items)))
    assert (queue.samples, queue.requests, queue.clients) == (0, 0, 0)
    assert not any(queue.drop(one) for one in items)


@given(greedy=st.integers(10, 50), max_batch=st.integers(2, 16))
def test_a_modest_client_is_in_the_first_batch(greedy: int, max_batch: int) -> None:
    queue: BatchQueue[str, int] = BatchQueue(max_batch, 1.0)
    for number in range(greedy):
        queue.put(item(number, "a", "greedy", 1))
    queue.put(item(greedy, "a", "modest", 1))
    assert "modest" in {one.client for one in queue.take(0.0)}


def test_what_waited_too_long_goes_before_fuller_batches() -> None:
    queue: BatchQueue[str, int] = BatchQueue(8, 0.5)
    queue.put(item(0, "a", "x", 1))
    for number in range(1, 6):
        queue.put(item(number, "b", "x", 1))
    assert {one.key for one in queue.take(0.4)} == {"b"}
    for number in range(6, 12):
        queue.put(item(number, "b", "x", 1))
    assert {one.key for one in queue.take(0.6)} == {"a"}
