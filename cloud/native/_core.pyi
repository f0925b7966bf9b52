from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from shared.packed._native import Engine, ImageEngine

RUN_FIXED_S: float
Key = tuple[int, int, int]  # number of the model, device level, pinned cloud level or -1
Answer = tuple[bytes, int, int, int, bool, bool, float, float, int, int | None, int]

class LinearFit:
    """Models the seconds of a batch as ``fixed_s + samples * sample_s``, fitted to past batches."""

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
    """Predictions for a model: computing by pair of levels, decoding by encoding and level."""

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
    """A waiting request. Times are in seconds; ``number`` is chosen by the caller."""

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
    """Why a request is refused."""

    LATE = ...
    FULL = ...
    SHARE = ...

class QueueLimits:
    """The largest queue: in samples, and in seconds of work at the narrowest level."""

    def __init__(self, samples: int, delay_s: float) -> None: ...
    @property
    def samples(self) -> int: ...
    @property
    def delay_s(self) -> float: ...

class QueueState:
    """The state of the queue when a request arrives."""

    def __init__(
        self, samples: int, client_samples: int, clients: int, delay_s: float, level_delay_s: float
    ) -> None: ...

def reject_reason(
    state: QueueState, limits: QueueLimits, samples: int, work_s: float, remaining_s: float | None
) -> RejectReason | None:
    """Return why a request of ``samples`` is refused, or None if it may wait."""

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
    """Recent demand by level, over a window of about a second."""

    def __init__(self, count: int, window_s: float = 0.5) -> None: ...
    def add(self, now_s: float, work_s: Sequence[float]) -> None: ...
    def shares(self, now_s: float) -> list[float]: ...

class SojournTimes:
    """Counts requests that took longer than a limit, over the present window and the one before."""

    def __init__(self, window_s: float = 0.25) -> None: ...
    def add(self, now_s: float, late: int, total: int = 1) -> None: ...
    def late(self, now_s: float) -> bool: ...
    def clear(self) -> None: ...

class Statistics:
    """The answers and failures of a model since it was loaded."""

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
    """A served model; ``macs[level][cloud_level]`` are multiply-accumulates of a sample."""

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
    """Slices of jobs that run together, and their measurements."""

    @property
    def slices(self) -> list[Slice]: ...
    @property
    def level(self) -> int: ...
    @property
    def cloud_level(self) -> int: ...
    @property
    def failed(self) -> bool: ...
    def measure(self, decode_s: float, wrong: bool, decoded: bool) -> None:
        """Record the next slice: decoding time, and whether its payload is invalid or verified."""

    def ran(self, samples: int, seconds: float) -> None:
        """Record how many samples were computed, and the seconds of computing without decoding."""

    def fail(self) -> None:
        """Record that the batch could not be computed."""

class Rejection:
    """Why a job is refused, the message for the client, and when it may try again."""

    @property
    def reason(self) -> RejectReason: ...
    @property
    def message(self) -> str: ...
    @property
    def wait_ms(self) -> int: ...

class LaterLook(Enum):
    """Whether a later look belongs to a request that the stream remembers."""

    KNOWN = ...
    UNKNOWN = ...
    TWICE = ...
    OTHER_VERSION = ...

class StreamState:
    """The state that a stream keeps between its messages."""

    def __init__(self) -> None: ...
    def named(self) -> tuple[str, str]:
        """Return the model and version that were named last."""

    def name(self, model: str, version: str) -> None: ...
    def asked(self, now_s: float, id: int, version: str, keep_s: float) -> None:
        """Remember for ``keep_s`` that another look at request ``id`` was asked for."""

    def looked(self, now_s: float, id: int, version: str) -> tuple[LaterLook, str]:
        """Record a later look; the text is the first look's version in the case OTHER_VERSION."""

class Outcome:
    """The serialised response to a request, or gRPC's ``status`` and the message of its failure."""

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
        """Return a serialised InferResponse with the failure, for streams."""

class Ticket:
    """Refers to a queued request."""

class Scheduler:
    """Computes serialised responses from serialised requests, with compute threads of its own."""

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
        """Begin to answer a serialised InferRequest.

        Returns the outcome; or a ticket if the request is queued, and ``done`` will receive the
        outcome in another thread; or None if the request must be answered by Python.
        """

    def infer_images(self, request: bytes, client: str) -> Outcome | None: ...
    def withdraw(self, ticket: Ticket) -> bool: ...
    def count(self, status: int, received_bytes: int, sent_bytes: int) -> None: ...
    def stop(self) -> None:
        """End the threads and refuse the requests that wait."""

class Dispatcher:
    """Decides which jobs run at once, wait or are refused, and charges work to clients.

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
        """Answer a cheap InferRequest that need not wait; returns as ``Engine.answer`` does."""

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
        """Return the cloud level to run the job at now, its queue entry, or its rejection."""

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
        """Count a job that ran at once as ``submit`` decided."""

    def take(self, now_s: float) -> tuple[Batch | None, list[Queued]]:
        """Take the next batch, and the jobs that were removed as they would have been late."""

    def finish(self, batch: Batch) -> None:
        """Charge the measured time of a batch to its clients."""

    def answered(self, now_s: float, job: Queued) -> float:
        """Count an answered job; return the seconds that it waited."""

    def refused(self, now_s: float, job: Queued, reason: str) -> None:
        """Count a job that is refused after it has waited."""

    def count_refused(self, model: Model, reason: str, seconds: float = 0.0) -> None:
        """Count a job that is refused without having waited."""

    def withdraw(self, job: Queued) -> bool:
        """Remove a job whose answer nobody waits for; False if it has already left the queue."""

    def observe(self, now_s: float) -> None:
        """Update the cloud's level after the queue or the running batches have changed."""

    def tick(self, now_s: float, busy: float, lag_s: float) -> None:
        """Record the share of time in which the server is busy, and its event loop's delay."""

    def account(self, now_s: float) -> None:
        """Count the jobs that ran at once."""

    def load(self, now_s: float) -> float:
        """Return the share of the capacity in use; above 1 if the demand exceeds the capacity."""

    def hints_for(self, level: int) -> tuple[float, int | None] | None:
        """Return the hints for answers: the load, and perhaps a lower device level; or None."""

    def counters(self) -> dict[str, Any]:
        """Return samples by (model, fraction), refusals by reason, and histograms."""

    @property
    def fraction(self) -> float: ...
    @property
    def running(self) -> bool: ...
    @property
    def queued(self) -> tuple[int, int]:
        """Return the numbers of waiting requests and samples."""
