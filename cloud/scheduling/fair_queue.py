"""Waiting requests, shared between clients by deficit round robin on seconds of work. No I/O.

All waiting clients earn the same credit of seconds and spend it on their requests (Shreedhar and
Varghese, "Efficient Fair Queueing Using Deficit Round Robin", 1995); what a batch took beyond its
prediction is charged afterwards. A request that is larger than a batch runs in slices, in batches
of their own and only after the smaller requests that can afford to go: so a request alone in flight
waits for no more than one batch of others. Nothing waits for a batch to fill.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Work = TypeVar("Work")

TURN_SAMPLES = 8  # one round earns each client the seconds of this many samples; so does coming


@dataclass(slots=True, eq=False)
class Item(Generic[Key, Work]):
    """A waiting request. Only items of one ``key`` run together. Times are seconds.

    once_s      predicted time besides that of the samples, e.g. for decoding
    sample_s    predicted time of a sample
    expected    samples to plan with; below ``samples`` as long as the payload is not decoded and
                too small to make that many likely
    """

    key: Key
    client: str
    samples: int
    arrived_s: float
    deadline_s: float
    work: Work
    once_s: float = 0.0
    sample_s: float = 1.0
    expected: int = 0
    started: int = 0  # samples that were taken
    left: bool = False  # taken to its end, or dropped

    def __post_init__(self) -> None:
        self.expected = self.expected or self.samples

    @property
    def waiting(self) -> int:
        """Samples that wait, as planned with."""
        return 0 if self.left else max(self.expected - self.started, 1)


@dataclass(slots=True)
class Slice(Generic[Key, Work]):
    """Samples ``start`` to ``stop`` of an item."""

    item: Item[Key, Work]
    start: int
    stop: int

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.stop - self.start

    @property
    def predicted_s(self) -> float:
        """Seconds that were predicted for it."""
        once_s = 0.0 if self.start else self.item.once_s
        return once_s + self.samples * self.item.sample_s


@dataclass(slots=True)
class _Group(Generic[Key, Work]):
    """Items of one key: in order of arrival, and by client in order of turns."""

    arrivals: deque[Item[Key, Work]] = field(default_factory=deque)
    clients: OrderedDict[str, deque[Item[Key, Work]]] = field(default_factory=OrderedDict)
    samples: int = 0

    def oldest_s(self) -> float:
        while self.arrivals[0].left:
            self.arrivals.popleft()
        return self.arrivals[0].arrived_s


class FairQueue(Generic[Key, Work]):
    """The waiting requests of all clients.

    The key with the fullest batch goes first, until an item has waited for ``max_delay_s``; then
    the key that was served longest ago.
    """

    def __init__(self, max_batch: int, max_delay_s: float) -> None:
        self._max_batch = max_batch
        self._max_delay_s = max_delay_s
        self._groups: OrderedDict[Key, _Group[Key, Work]] = OrderedDict()
        self._client_samples: dict[str, int] = {}
        self._client_requests: dict[str, int] = {}
        self._credit_s: dict[str, float] = {}
        self.samples = 0
        self.requests = 0
        self.once_s = 0.0  # sum over the items that have not started

    @property
    def clients(self) -> int:
        """Number of clients that wait."""
        return len(self._client_requests)

    def client_samples(self, client: str) -> int:
        """Number of samples of ``client`` that wait."""
        return self._client_samples.get(client, 0)

    def waits(self, client: str) -> bool:
        """Whether a request of ``client`` waits."""
        return client in self._client_requests

    def by_key(self) -> Iterator[tuple[Key, int]]:
        """The keys of waiting items, with their numbers of samples."""
        return ((key, group.samples) for key, group in self._groups.items())

    def put(self, item: Item[Key, Work]) -> None:
        """Add an item."""
        group = self._groups.get(item.key)
        if group is None:
            group = self._groups[item.key] = _Group()
        group.arrivals.append(item)
        group.clients.setdefault(item.client, deque()).append(item)
        if item.client not in self._client_requests:  # goes next, unless it is in debt
            self._credit_s.setdefault(item.client, TURN_SAMPLES * item.sample_s + item.once_s)
        self.requests += 1
        self.once_s += item.once_s
        self._client_requests[item.client] = self._client_requests.get(item.client, 0) + 1
        self._add(item, item.waiting)

    def take(self, now_s: float) -> list[Slice[Key, Work]]:
        """The next batch: slices of items of one key, at most ``max_batch`` samples.

        Empty if nothing waits.
        """
        if not self._groups:
            return []
        if self.clients == 1:
            self._credit_s.clear()  # alone, it owes nobody
        key = self._next_key(now_s)
        group = self._groups[key]
        self._groups.move_to_end(key)
        batch = self._fill(group, whole=True) or self._fill(group, whole=False)
        while not batch:
            self._earn(group)
            batch = self._fill(group, whole=True) or self._fill(group, whole=False)
        if not group.clients:
            del self._groups[key]
        if not self._groups:
            self._credit_s.clear()
        return batch

    def drop(self, item: Item[Key, Work]) -> bool:
        """Remove an item that nobody waits for; False if it has left already."""
        if item.left:
            return False
        self._leave(item)
        if not self._groups[item.key].clients:
            del self._groups[item.key]
        return True

    def decoded(self, item: Item[Key, Work]) -> None:
        """Plan with all samples of ``item`` from now on."""
        before = item.waiting
        item.expected = item.samples
        if not item.left:
            self._add(item, item.waiting - before)

    def charge(self, client: str, seconds: float) -> None:
        """Take credit from ``client``, or give it some back, after a batch was measured."""
        if self._groups:
            self._credit_s[client] = self._credit_s.get(client, 0.0) - seconds

    def _fill(self, group: _Group[Key, Work], whole: bool) -> list[Slice[Key, Work]]:
        """A batch of requests that run as a whole, or of slices; empty if none can afford to go.

        If all that waits is of one kind, the batch is filled on new credit.
        """
        batch: dict[int, Slice[Key, Work]] = {}
        room = self._max_batch
        mixed = False
        skipped = 0  # clients in a row that do not go
        while group.clients and room > 0:
            client, items = next(iter(group.clients.items()))
            item = items[0]
            other = self._whole(item) != whole
            if not other and whole and item.samples > room:
                break
            alone = len(group.clients) == 1 and not mixed
            samples = 0 if other else self._affordable(item, room, alone)
            group.clients.move_to_end(client)
            if samples:
                skipped = 0
                room -= samples
                self._extend(batch, item, samples)
                continue
            mixed |= other
            skipped += 1
            if skipped >= len(group.clients):
                if mixed or not batch:
                    break
                self._earn(group)
                skipped = 0
        return list(batch.values())

    def _whole(self, item: Item[Key, Work]) -> bool:
        """Whether the item fits into a batch, and so is never sliced."""
        return item.samples <= self._max_batch

    def _affordable(self, item: Item[Key, Work], room: int, alone: bool) -> int:
        """Samples of ``item`` that its client's credit allows now, at most ``room``."""
        samples = min(item.samples - item.started, room)
        if alone:
            return samples
        credit_s = self._credit_s.get(item.client, 0.0)
        if not item.started:
            credit_s -= item.once_s
        if self._whole(item):
            return samples if credit_s >= samples * item.sample_s else 0
        return min(samples, max(int(credit_s / item.sample_s), 0))

    def _earn(self, group: _Group[Key, Work]) -> None:
        """Give all clients of ``group`` as many rounds of credit as the first to go on needs."""
        heads = [items[0] for items in group.clients.values()]
        turn_s = TURN_SAMPLES * max(item.sample_s for item in heads)
        rounds = max(min(self._rounds(item, turn_s) for item in heads), 1)
        for client in group.clients:
            self._credit_s[client] = self._credit_s.get(client, 0.0) + rounds * turn_s

    def _rounds(self, item: Item[Key, Work], turn_s: float) -> int:
        needed_s = (item.samples if self._whole(item) else 1) * item.sample_s
        if not item.started:
            needed_s += item.once_s
        return math.ceil((needed_s - self._credit_s.get(item.client, 0.0)) / turn_s)

    def _extend(
        self, batch: dict[int, Slice[Key, Work]], item: Item[Key, Work], samples: int
    ) -> None:
        """Move the next samples of ``item`` from the queue to ``batch``."""
        start = item.started
        taken = Slice(item, start, start + samples)
        if item.client in self._credit_s:
            self._credit_s[item.client] -= taken.predicted_s
        if start == 0:
            self.once_s -= item.once_s
        if id(item) in batch:
            batch[id(item)].stop = taken.stop
        else:
            batch[id(item)] = taken
        before = item.waiting
        item.started = taken.stop
        if item.started == item.samples:
            self._leave(item, before)
        else:
            self._add(item, item.waiting - before)

    def _leave(self, item: Item[Key, Work], waiting: int | None = None) -> None:
        """Remove ``item``, of which ``waiting`` samples (default: all that wait) are counted."""
        group = self._groups[item.key]
        items = group.clients[item.client]
        items.remove(item)
        if not items:
            del group.clients[item.client]
        self._add(item, -(item.waiting if waiting is None else waiting))
        if not item.started:
            self.once_s -= item.once_s
        item.left = True
        self.requests -= 1
        if not self.requests:
            self.once_s = 0.0  # without what rounding left
        rest = self._client_requests[item.client] - 1
        self._client_requests[item.client] = rest
        if not rest:
            del self._client_requests[item.client], self._client_samples[item.client]
            if self._credit_s.get(item.client, 0.0) >= 0.0:
                self._credit_s.pop(item.client, None)  # unused credit is lost, a debt stays

    def _add(self, item: Item[Key, Work], samples: int) -> None:
        self._groups[item.key].samples += samples
        self.samples += samples
        self._client_samples[item.client] = self._client_samples.get(item.client, 0) + samples

    def _next_key(self, now_s: float) -> Key:
        fullest, most = next(iter(self._groups)), -1
        for key, group in self._groups.items():  # the key served longest ago comes first
            if now_s - group.oldest_s() >= self._max_delay_s:
                return key
            samples = min(group.samples, self._max_batch)
            if samples > most:
                fullest, most = key, samples
        return fullest
