"""Laws of the queue: nothing lost or taken twice, one key a batch, equal work for clients."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud.native import FairQueue, Item

Key = tuple[int, int, int]
A, B = (1, 0, -1), (2, 0, -1)
LESS_WORK = st.floats(0.1, 8.0)  # than a client earns in a turn of 8 samples of 1 s
Requests = st.lists(
    st.tuples(st.sampled_from([A, B]), st.sampled_from(["x", "y", "z"]), st.integers(1, 9)),
    max_size=60,
)


def item(number: int, key: Key, client: str, samples: int) -> Item:
    return Item(key, client, samples, float(number), float("inf"), number)


@given(requests=Requests, max_batch=st.integers(1, 16), dropped=st.sets(st.integers(0, 59)))
def test_every_item_leaves_once(
    requests: list[tuple[Key, str, int]], max_batch: int, dropped: set[int]
) -> None:
    queue = FairQueue(max_batch, 1.0)
    items = [item(number, *request) for number, request in enumerate(requests)]
    for one in items:
        queue.put(one)
    gone = [one.number for one in items if one.number in dropped and queue.drop(one)]
    taken: dict[int, int] = {}  # samples of each item so far
    while batch := queue.take(0.0):
        assert len({one.item.key for one in batch}) == 1
        assert len({one.item.number for one in batch}) == len(batch)
        assert sum(one.samples for one in batch) <= max_batch
        for part in batch:
            assert part.start == taken.get(part.item.number, 0)
            taken[part.item.number] = part.stop
            whole = part.start == 0 and part.stop == part.item.samples
            assert whole or part.item.samples > max_batch  # what fits into a batch is not cut
    assert taken == {one.number: one.samples for one in items if one.number not in gone}
    assert sorted([*taken, *gone]) == list(range(len(items)))
    assert (queue.samples, queue.requests, queue.clients, queue.once_s) == (0, 0, 0, 0.0)
    assert not any(queue.drop(one) for one in items)


@given(greedy=st.integers(10, 50), max_batch=st.integers(2, 16))
def test_a_modest_client_is_in_the_first_batch(greedy: int, max_batch: int) -> None:
    queue = FairQueue(max_batch, 1.0)
    for number in range(greedy):
        queue.put(item(number, A, "greedy", 1))
    queue.put(item(greedy, A, "modest", 1))
    assert "modest" in {one.item.client for one in queue.take(0.0)}


def test_what_waited_too_long_goes_before_fuller_batches() -> None:
    queue = FairQueue(8, 0.5)
    queue.put(item(0, A, "x", 1))
    for number in range(1, 6):
        queue.put(item(number, B, "x", 1))
    assert {one.item.key for one in queue.take(0.4)} == {B}
    for number in range(6, 12):
        queue.put(item(number, B, "x", 1))
    assert {one.item.key for one in queue.take(0.6)} == {A}


@given(large=st.integers(100, 1024), once_s=st.floats(0.0, 3.0), sample_s=st.floats(0.1, 1.0))
def test_clients_get_equal_work_whatever_the_size_of_their_requests(
    large: int, once_s: float, sample_s: float
) -> None:
    queue = FairQueue(32, 1.0)

    def add(client: str, samples: int) -> None:
        queue.put(Item(A, client, samples, 0.0, float("inf"), 0, once_s=once_s, sample_s=sample_s))

    for _ in range(2):
        add("large", large)
    for _ in range(16):
        add("small", 1)
    spent = {"large": 0.0, "small": 0.0}
    for _ in range(200):
        for one in queue.take(0.0):
            spent[one.item.client] += one.predicted_s
            if one.stop == one.item.samples:
                add(one.item.client, one.item.samples)  # both always have as much in flight
    # Of a batch the small client can take no more than its 16 requests.
    most = 200 * 16 * (once_s + sample_s)
    assert spent["small"] >= min(0.45 * sum(spent.values()), 0.9 * most)


def test_a_request_in_flight_waits_for_one_batch_of_others() -> None:
    queue = FairQueue(32, 1.0)
    for _ in range(2):
        queue.put(Item(A, "large", 1024, 0.0, float("inf")))
    for _ in range(20):
        queue.take(0.0)  # a batch that runs as the small one comes
        queue.put(Item(A, "small", 1, 0.0, float("inf")))
        assert "small" in {one.item.client for one in queue.take(0.0)}


@given(
    running=st.integers(0, 40), large=st.integers(33, 1024), others=st.integers(1, 3), own=LESS_WORK
)
def test_a_request_in_flight_waits_for_no_more_samples_than_a_batch_has(
    running: int, large: int, others: int, own: float
) -> None:
    queue = FairQueue(32, 1.0)
    for number in range(2 * others):
        queue.put(Item(A, f"large {number % others}", large, 0.0, float("inf")))
    batch = queue.take(0.0)
    for _ in range(running):
        batch = queue.take(0.0) or batch
    if not queue.requests:
        return
    waited = sum(one.samples for one in batch)  # runs as the small one comes
    queue.put(Item(A, "small", 1, 0.0, float("inf"), sample_s=own))
    batch = queue.take(0.0)
    assert [one.item.client for one in batch] == ["small"]
    assert waited <= 32


def test_work_that_took_longer_than_predicted_is_charged_to_its_client() -> None:
    queue = FairQueue(8, 1.0)
    for number in range(400):
        for client in ("cheap", "dear"):
            queue.put(Item(A, client, 1, 0.0, float("inf"), number))
    taken = {"cheap": 0, "dear": 0}
    while min(taken.values()) < 60:
        for one in queue.take(0.0):
            taken[one.item.client] += 1
            if one.item.client == "dear":
                queue.charge("dear", 3.0)  # four times what was predicted
    assert taken["cheap"] >= 3 * taken["dear"]


def test_an_undecoded_payload_counts_as_the_samples_that_are_likely() -> None:
    queue = FairQueue(32, 1.0)
    item = Item(A, "x", 1024, 0.0, float("inf"), 0, expected=5)
    queue.put(item)
    assert queue.samples == queue.client_samples("x") == 5
    (first,) = queue.take(0.0)
    assert (first.start, first.stop) == (0, 32)
    assert queue.samples == 1  # it goes on waiting
    queue.decoded(item)
    assert queue.samples == 1024 - 32
    assert queue.drop(item)
    assert queue.samples == 0


@given(requests=Requests, max_batch=st.integers(1, 8))
def test_an_item_that_is_held_waits_and_others_go(
    requests: list[tuple[Key, str, int]], max_batch: int
) -> None:
    queue = FairQueue(max_batch, 1.0)
    for number, request in enumerate(requests):
        queue.put(item(number, *request))
    taken = 0
    running: list[Item] = []  # items of which a slice runs
    while batch := queue.take(0.0):
        for part in batch:
            taken += part.samples
            assert part.item.number not in {one.number for one in running}
            if part.stop < part.item.samples:
                queue.hold(part.item)
                running.append(part.item)
        if len(running) > 2:
            queue.release(running.pop(0))
    while running:
        queue.release(running.pop(0))
        while batch := queue.take(0.0):
            taken += sum(part.samples for part in batch)
    assert taken == sum(samples for _, _, samples in requests)
    assert (queue.samples, queue.requests) == (0, 0)
