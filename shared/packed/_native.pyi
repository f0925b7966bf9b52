from typing import Any

import numpy.typing as npt

def available() -> list[str]:
    """Return the names of the implementations for this CPU, best first."""

def vector_bits(name: str) -> int:
    """Return the width of an implementation's vectors."""

def peak(name: str) -> float:
    """Measure the binary multiply-accumulates per second in registers."""

class Half:
    """Stages that run in one call. Immutable, so many threads may use it."""

    def __init__(
        self,
        kernels: str,
        shape: tuple[int, int, int],
        stages: list[dict[str, Any]],
        plans: list[tuple[int, list[int]]],
    ) -> None: ...
    @property
    def kernels(self) -> str: ...
    def run(self, input: npt.NDArray[Any], plan: int, output: npt.NDArray[Any]) -> None: ...
    def profile(self, input: npt.NDArray[Any], plan: int, repeats: int) -> list[float]: ...
    def input_bytes(self, plan: int) -> int: ...
    def output_bytes(self, plan: int) -> int: ...

class ContextCoder:
    """Codes packed maps of bits. Immutable, so many threads may use it."""

    def __init__(
        self,
        height: int,
        width: int,
        base: npt.NDArray[Any],
        neighbour: npt.NDArray[Any],
        channel: npt.NDArray[Any],
        output: npt.NDArray[Any],
        bias: npt.NDArray[Any],
        probability: npt.NDArray[Any],
    ) -> None: ...
    @property
    def sample_bytes(self) -> int: ...
    def encode(self, input: npt.NDArray[Any], limit: int) -> bytes | None: ...
    def decode(self, payload: bytes, output: npt.NDArray[Any]) -> bool: ...
    def decoder(self, payload: bytes) -> ContextDecoder: ...

class ContextDecoder:
    """Decodes a payload a few samples at a time; for one thread at a time."""

    def next(self, output: npt.NDArray[Any]) -> bool: ...
    def finished(self) -> bool: ...

class Engine:
    """A cloud half that computes serialised responses from serialised requests, in any thread."""

    def __init__(
        self,
        half: Half,
        model: str,
        version: str,
        coders: list[Any],
        sample_bits: list[int],
        cloud_levels: int,
        classes: int,
        payload_slack: int,
    ) -> None: ...
    def set_most_samples(self, most: list[int]) -> None:
        """Limit the samples of a request, by device level; larger ones are left to the caller."""

    def set_looks(self, ask_below: list[int], keep_ms: int) -> None:
        """Set the margins below which another look is wanted: [level * levels + next]; 0: never."""

    def set_least_bits(self, bits: float) -> None:
        """Set the least number of bits that the context coder writes for a bit."""

    def answer(
        self, request: bytes, cloud_level: int, load: float | None, suggest_lower: bool
    ) -> tuple[bytes, int, int, int, bool, bool, float, float, int, int | None, int] | None:
        """Answer a serialised InferRequest; None leaves it to the caller.

        Returns the response, level, encoding, samples, whether the request names a model and a
        version, seconds of decoding and of running, the id, the number of earlier looks (None if
        the request has no ``looks``), and the number of samples at which another look is wanted.
        """

class ImageEngine:
    """Both halves, which compute serialised responses from requests with images, in any thread."""

    def __init__(
        self,
        device: Half,
        cloud: Half,
        model: str,
        version: str,
        image_shape: list[int],
        cloud_levels: int,
        classes: int,
    ) -> None: ...
    def answer(
        self, request: bytes, cloud_level: int, most: int
    ) -> tuple[bytes, int, int, int, bool, bool, float, float, int, int | None, int] | None:
        """Like ``Engine.answer``, for a ModelInferRequest of at most ``most`` images."""

def respond(
    logits: npt.NDArray[Any],
    id: int,
    top_k: int,
    level_and_times: tuple[int, int, int],
    load: float | None,
    suggested_level: int | None,
    more: tuple[int, int, tuple[int, ...]] | None = None,
) -> bytes:
    """Return a serialised InferResponse for logits (samples, classes).

    level_and_times = (cloud_level, queue_us, compute_us), more = (level, keep_ms, samples).
    """
