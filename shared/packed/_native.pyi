from typing import Any

import numpy.typing as npt

def available() -> list[str]:
    """Names of the implementations for this CPU, best first."""

def vector_bits(name: str) -> int:
    """Width of an implementation's vectors."""

def peak(name: str) -> float:
    """Binary multiply-accumulates a second on registers alone."""

class Half:
    """Stages that run in one call; immutable, so safe in many threads."""

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
    """Codes packed maps of bits; immutable, so safe in many threads."""

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
    """Decodes a payload some samples at a time; for one thread at a time."""

    def next(self, output: npt.NDArray[Any]) -> bool: ...
    def finished(self) -> bool: ...

class Engine:
    """A cloud half that answers requests from bytes to bytes; safe in many threads."""

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
        """Leave requests of more samples than this to the caller, by device level."""

    def set_looks(self, ask_below: list[int], keep_ms: int) -> None:
        """Margins below which another look is wanted, at [level * levels + next]; 0: never."""

    def set_least_bits(self, bits: float) -> None:
        """The least that the context coder writes for a bit."""

    def answer(
        self, request: bytes, cloud_level: int, load: float | None, suggest_lower: bool
    ) -> tuple[bytes, int, int, int, bool, bool, float, float, int, int | None, int] | None:
        """The response, level, encoding, samples, whether the request names a model and a
        version, seconds of decoding and of running, the id, how many looks went before (None if
        it says nothing of looks), at how many samples another one is wanted.
        """

class ImageEngine:
    """Both halves, answering whole images from bytes to bytes; safe in many threads."""

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
        """As ``Engine.answer``, for a ModelInferRequest of at most ``most`` images."""

def respond(
    logits: npt.NDArray[Any],
    id: int,
    top_k: int,
    level_and_times: tuple[int, int, int],
    load: float | None,
    suggested_level: int | None,
    more: tuple[int, int, tuple[int, ...]] | None = None,
) -> bytes:
    """A serialised InferResponse; level_and_times = (cloud_level, queue_us, compute_us),
    more = (level, keep_ms, samples).
    """
