"""Micro-batches: what waits, by what may run together, shared fairly between clients. No I/O.

Nothing ever waits for a batch to fill: whoever computes takes what has queued meanwhile. The
fullest batch goes first, until something has waited for ``max_delay_s``; then whatever was served
longest ago. Within a batch clients take turns, one request each.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Work = TypeVar("Work")


@dataclass(slots=True, eq=False)
class Item(Generic[Key, Work]):
    """A request that waits. Only items of one ``key`` run together. Times are seconds."""

    key: Key
    client: str
    samples: int
    arrived_s: float
    deadline_s: float
    work: Work
    left: bool = False  # it was taken, or given up


@dataclass(slots=True)
class _Group(Generic[Key, Work]):
    """What waits under one key: in order of arrival, and by client in order of turns."""

    arrivals: deque[Item[Key, Work]] = field(default_factory=deque)
    clients: OrderedDict[str, deque[Item[Key, Work]]] = field(default_factory=OrderedDict)
    samples: int = 0

    def oldest_s(self) -> float:
        while self.arrivals[0].left:
            self.arrivals.popleft()
        return self.arrivals[0].arrived_s


class BatchQueue(Generic[Key, Work]):
    """Requests that wait for the kernel."""

    def __init__(self, max_batch: int, max_delay_s: float) -> None:
        self._max_batch = max_batch
        self._max_delay_s = max_delay_s
        self._groups: OrderedDict[Key, _Group[Key, Work]] = OrderedDict()
        self._by_client: dict[str, int] = {}
        self.samples = 0
        self.requests = 0

    @property
    def clients(self) -> int:
        """How many clients wait."""
        return len(self._by_client)

    def client_samples(self, client: str) -> int:
        """How many samples of ``client`` wait."""
        return self._by_client.get(client, 0)

    def by_key(self) -> Iterator[tuple[Key, int]]:
        """The keys under which something waits, and how many samples."""
        return ((key, group.samples) for key, group in self._groups.items())

    def put(self, item: Item[Key, Work]) -> None:
        """Let ``item`` wait."""
        group = self._groups.get(item.key)
        if group is None:
            group = self._groups[item.key] = _Group()
        group.arrivals.append(item)
        group.clients.setdefault(item.client, deque()).append(item)
        group.samples += item.samples
        self.samples += item.samples
        self.requests += 1
        self._by_client[item.client] = self._by_client.get(item.client, 0) + item.samples

    def take(self, now_s: float) -> list[Item[Key, Work]]:
        """The next batch: items of one key, ``max_batch`` samples or one larger item.

        Empty if nothing waits.
        """
        if not self._groups:
            return []
        key = self._next_key(now_s)
        group = self._groups[key]
        self._groups.move_to_end(key)
        batch: list[Item[Key, Work]] = []
        room = self._max_batch
        while group.clients and room > 0:
            client, items = next(iter(group.clients.items()))
            if batch and items[0].samples > room:
                break
            item = items.popleft()
            if items:
                group.clients.move_to_end(client)
            else:
                del group.clients[client]
            room -= item.samples
            batch.append(item)
            self._leave(item, group)
        if not group.clients:
            del self._groups[key]
        return batch

    def drop(self, item: Item[Key, Work]) -> bool:
        """Forget an item that nobody waits for any more; False if it is gone already."""
        if item.left:
            return False
        group = self._groups[item.key]
        items = group.clients[item.client]
        items.remove(item)
        if not items:
            del group.clients[item.client]
        self._leave(item, group)
        if not group.clients:
            del self._groups[item.key]
        return True

    def _leave(self, item: Item[Key, Work], group: _Group[Key, Work]) -> None:
        item.left = True
        group.samples -= item.samples
        self.samples -= item.samples
        self.requests -= 1
        rest = self._by_client[item.client] - item.samples
        if rest:
            self._by_client[item.client] = rest
        else:
            del self._by_client[item.client]

    def _next_key(self, now_s: float) -> Key:
        fullest, most = next(iter(self._groups)), -1
        for key, group in self._groups.items():  # served longest ago first
            if now_s - group.oldest_s() >= self._max_delay_s:
                return key
            samples = min(group.samples, self._max_batch)
            if samples > most:
                fullest, most = key, samples
        return fullest
