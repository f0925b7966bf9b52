from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from shared.packed._native import Engine, ImageEngine

RUN_FIXED_S: float
Key = tuple[int, int, int]  # number of the model, device level, pinned cloud level or -1
Answer = tuple[bytes, int, int, int, bool, bool, float, float, int, int | None, int]

class LinearFit:
    """Seconds of a batch as ``fixed + samples * per_sample``, fitted to the batches that ran."""

    def __init__(self, fixed_s: float, sample_s: float) -> None: ...
    @property
    def fixed_s(self) -> float: ...
    @property
    def sample_s(self) -> float: ...
    @property
    def measured(self) -> bool: ...
    def seconds(self, samples: float) -> float: ...
    def guess(self, sample_s: float) -> None: ...
    def learn(self, samples: float, seconds: float) -> None: ...

class CostModel:
    """Predictions for one model: computing by pair of levels, decoding by encoding and level."""

    def __init__(self, macs: Sequence[Sequence[float]]) -> None: ...
    def run_s(self, level: int, cloud_level: int, samples: float) -> float: ...
    def sample_s(self, level: int, cloud_level: int) -> float: ...
    def decode_s(self, encoding: int, level: int, samples: float) -> float: ...
    def most_samples(
        self, encoding: int, level: int, cloud_level: int, budget_s: float, limit: int
    ) -> int: ...
    def learn_run(self, level: int, cloud_level: int, samples: float, seconds: float) -> None: ...
    def learn_decode(self, encoding: int, level: int, samples: float, seconds: float) -> None: ...

class Item:
    """A waiting request. Times are seconds; ``number`` is the caller's."""

    def __init__(
        self,
        key: Key,
        client: str,
        samples: int,
        arrived_s: float,
        deadline_s: float,
        number: int = 0,
        once_s: float = 0.0,
        sample_s: float = 1.0,
        expected: int = 0,
    ) -> None: ...
    @property
    def key(self) -> Key: ...
    @property
    def client(self) -> str: ...
    @property
    def samples(self) -> int: ...
    @property
    def number(self) -> int: ...

class Slice:
    """Samples ``start`` to ``stop`` of an item."""

    @property
    def item(self) -> Item: ...
    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def predicted_s(self) -> float: ...

class FairQueue:
    """The waiting requests of all clients, by deficit round robin on seconds of work."""

    def __init__(self, max_batch: int, max_delay_s: float) -> None: ...
    @property
    def samples(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def clients(self) -> int: ...
    @property
    def once_s(self) -> float: ...
    def client_samples(self, client: str) -> int: ...
    def put(self, item: Item) -> None: ...
    def take(self, now_s: float) -> list[Slice]: ...
    def drop(self, item: Item) -> bool: ...
    def decoded(self, item: Item) -> None: ...
    def hold(self, item: Item) -> None: ...
    def release(self, item: Item) -> None: ...
    def charge(self, client: str, seconds: float) -> None: ...

class RejectReason(Enum):
    """Why a request may not wait."""

    LATE = ...
    FULL = ...
    SHARE = ...

class QueueLimits:
    """The most that may wait: samples, and seconds of work at the narrowest level."""

    def __init__(self, samples: int, delay_s: float) -> None: ...
    @property
    def samples(self) -> int: ...
    @property
    def delay_s(self) -> float: ...

class QueueState:
    """The queue as a new request finds it."""

    def __init__(
        self, samples: int, client_samples: int, clients: int, delay_s: float, level_delay_s: float
    ) -> None: ...

def reject_reason(
    state: QueueState, limits: QueueLimits, samples: int, work_s: float, remaining_s: float | None
) -> RejectReason | None:
    """Why a request of ``samples`` may not wait, or None."""

class LevelController:
    """Chooses a level from 0, the narrowest, to ``count - 1``."""

    def __init__(self, count: int, objective_s: float) -> None: ...
    @property
    def level(self) -> int: ...
    @property
    def limit_s(self) -> float: ...
    def update(
        self,
        now_s: float,
        delays_s: Sequence[float],
        demand: Sequence[float],
        measured_late: bool = False,
    ) -> int: ...

class Demand:
    """Work that was asked for lately, by level, over a window of about a second."""

    def __init__(self, count: int, window_s: float = 0.5) -> None: ...
    def add(self, now_s: float, work_s: Sequence[float]) -> None: ...
    def shares(self, now_s: float) -> list[float]: ...

class SojournTimes:
    """How many requests took longer than a limit, over two windows in turn."""

    def __init__(self, window_s: float = 0.25) -> None: ...
    def add(self, now_s: float, late: int, total: int = 1) -> None: ...
    def late(self, now_s: float) -> bool: ...
    def clear(self) -> None: ...

class Statistics:
    """What a model has answered and refused since it was loaded."""

    @property
    def requests(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def failure_s(self) -> float: ...
    @property
    def samples(self) -> int: ...
    @property
    def batches(self) -> int: ...
    @property
    def queue_s(self) -> float: ...
    @property
    def compute_s(self) -> float: ...
    @property
    def last_unix_s(self) -> float: ...

class Model:
    """A model as scheduling sees it; ``macs[level][cloud_level]`` are those of a sample."""

    def __init__(
        self,
        name: str,
        version: str,
        cloud_fractions: Sequence[float],
        macs: Sequence[Sequence[float]],
    ) -> None: ...
    @property
    def costs(self) -> CostModel: ...
    def set_engine(self, engine: Engine) -> None: ...
    def set_image_engine(self, engine: ImageEngine) -> None: ...
    def statistics(self) -> Statistics: ...
    def count_failed(self, seconds: float) -> None: ...

class Queued(Item):
    """A job in the queue of a dispatcher."""

    @property
    def compute_s(self) -> float: ...

class Batch:
    """Slices of jobs that run together, and what came of them."""

    @property
    def slices(self) -> list[Slice]: ...
    @property
    def level(self) -> int: ...
    @property
    def cloud_level(self) -> int: ...
    @property
    def failed(self) -> bool: ...
    def measure(self, decode_s: float, wrong: bool, decoded: bool) -> None:
        """Say of the next slice what decoding took, and whether its payload is wrong or known."""

    def ran(self, samples: int, seconds: float) -> None:
        """Say how many samples were computed, and the seconds of it without decoding."""

    def fail(self) -> None:
        """Say that it could not be computed."""

class Rejection:
    """Why a job may not wait."""

    @property
    def reason(self) -> RejectReason: ...
    @property
    def message(self) -> str: ...
    @property
    def wait_ms(self) -> int: ...

class LaterLook(Enum):
    """What is known of a later look."""

    KNOWN = ...
    UNKNOWN = ...
    TWICE = ...
    OTHER_VERSION = ...

class StreamState:
    """What a stream remembers between its messages."""

    def __init__(self) -> None: ...
    def named(self) -> tuple[str, str]:
        """The model and version named last."""

    def name(self, model: str, version: str) -> None: ...
    def asked(self, now_s: float, id: int, version: str, keep_s: float) -> None:
        """Remember for ``keep_s`` that another look was asked for."""

    def looked(self, now_s: float, id: int, version: str) -> tuple[LaterLook, str]:
        """Take note of a later look; with OTHER_VERSION, the version of the first."""

class Outcome:
    """The response to a request, or why there is none; ``status`` is gRPC's."""

    @property
    def status(self) -> int: ...
    @property
    def response(self) -> bytes: ...
    @property
    def message(self) -> str: ...
    @property
    def retry_after_ms(self) -> int: ...
    @property
    def id(self) -> int: ...
    def failure_response(self) -> bytes:
        """A serialised InferResponse that says so in a stream."""

class Ticket:
    """Names a queued request."""

class Scheduler:
    """Answers from bytes to bytes, with compute threads of its own."""

    def __init__(self, dispatcher: Dispatcher, threads: int) -> None: ...
    def serve(self, models: Sequence[Model]) -> None: ...
    def infer(
        self,
        request: bytes,
        client: str,
        remaining_s: float | None,
        stream: StreamState | None,
        done: Callable[[Outcome], object],
    ) -> Outcome | Ticket | None:
        """What came of a request, its ticket if ``done`` hears of it later in another thread, or
        None if it is not answered here.
        """

    def infer_images(self, request: bytes, client: str) -> Outcome | None: ...
    def withdraw(self, ticket: Ticket) -> bool: ...
    def count(self, status: int, received_bytes: int, sent_bytes: int) -> None: ...
    def stop(self) -> None:
        """End the threads; what waits is refused."""

class Dispatcher:
    """Decides what runs at once, waits or is refused, and keeps the account of work.

    ``now_s`` is ``time.perf_counter()``.
    """

    def __init__(
        self,
        max_batch: int,
        max_delay_s: float,
        objective_s: float,
        max_queue: int,
        fraction: float | None,
        threads: int,
    ) -> None: ...
    def serve(self, now_s: float, models: Sequence[Model]) -> None: ...
    def answer(self, now_s: float, model: Model, request: bytes, client: str) -> Answer | None:
        """The answer to a cheap InferRequest that need not wait, as ``Engine.answer``."""

    def answer_images(
        self, now_s: float, model: Model, request: bytes, client: str
    ) -> Answer | None:
        """The same for a ModelInferRequest of the Open Inference Protocol."""

    def submit(
        self,
        now_s: float,
        model: Model,
        level: int,
        pinned: int | None,
        encoding: int,
        samples: int,
        expected: int,
        sliced: bool,
        client: str,
        remaining_s: float | None,
    ) -> int | Queued | Rejection:
        """The cloud level to run the job at now, its place in the queue, or why it is refused."""

    def ran_at_once(
        self,
        now_s: float,
        model: Model,
        level: int,
        pinned: int | None,
        samples: int,
        cloud_level: int,
        decode_s: float,
        run_s: float,
    ) -> None:
        """Count a job that ran at once because ``submit`` said so."""

    def take(self, now_s: float) -> tuple[Batch | None, list[Queued]]:
        """The next batch, and the jobs that would have been late, which have left the queue."""

    def finish(self, batch: Batch) -> None:
        """Charge a batch to its clients."""

    def answered(self, now_s: float, job: Queued) -> float:
        """Count an answered job; gives the seconds that it waited."""

    def refused(self, now_s: float, job: Queued, reason: str) -> None:
        """Count a job that is refused after it has waited."""

    def count_refused(self, model: Model, reason: str, seconds: float = 0.0) -> None:
        """Count a job that is refused without having waited."""

    def withdraw(self, job: Queued) -> bool:
        """Remove a job that nobody waits for; False if it has left the queue."""

    def observe(self, now_s: float) -> None:
        """Update the level after something has changed."""

    def tick(self, now_s: float, busy: float, lag_s: float) -> None:
        """Take in the share of time that the server is at work, and its delay in waking."""

    def account(self, now_s: float) -> None:
        """Count the jobs that ran at once."""

    def load(self, now_s: float) -> float:
        """Share of the capacity in use; above 1 if more is asked for than can be done."""

    def hints_for(self, level: int) -> tuple[float, int | None] | None:
        """The load, and a lower device level to use, if answers should say so."""

    def counters(self) -> dict[str, Any]:
        """Samples by (model, fraction), refusals by reason, histograms."""

    @property
    def fraction(self) -> float: ...
    @property
    def running(self) -> bool: ...
    @property
    def queued(self) -> tuple[int, int]:
        """Requests and samples that wait."""
