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
