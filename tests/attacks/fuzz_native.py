"""Fuzz the compiled module: ``python -m tests.attacks.fuzz_native --seconds 60``.

Well-formed halves and coders with one or more fields replaced by something hostile. Whatever comes,
the module answers with a result or with an ordinary exception; anything else ends the process.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from shared.packed import _native

EXPECTED = (ValueError, TypeError, MemoryError, OverflowError)
TYPES = ("u1", "i1", "u2", "i4", ">i4", "i8", "f4", "f8", "?", "c8", "S3", "O", "M8[s]")
NUMBERS = (0, 1, -1, 2, 3, 7, 8, 9, 64, 255, 2**14, 2**16, 2**31 - 1, 2**31, -(2**31), 2**63, 2**70)


class Fuzzer:
    """Random calls from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, choices: Any) -> Any:
        """One of ``choices``."""
        return choices[int(self.rng.integers(len(choices)))]

    def hostile(self) -> Any:
        """Anything but what is wanted; now and then even that."""
        kind = int(self.rng.integers(12))
        if kind < 4:
            return self.pick(NUMBERS)
        if kind < 8:
            return self.array()
        if kind == 8:
            return bytes(int(self.rng.integers(64)))
        return self.pick((None, "", "binary_conv", b"", [], {}, (), 1.5, float("nan"), object()))

    def array(self) -> Any:
        """An array of any type, shape and strides."""
        shape = [int(self.rng.integers(0, 20)) for _ in range(int(self.rng.integers(0, 4)))]
        array: Any = np.zeros(shape, self.pick(TYPES))
        if self.rng.integers(2) and array.ndim:
            array = array[:: self.pick((-1, 2, -2, 3))]
        if self.rng.integers(4) == 0:
            array = np.broadcast_to(array, (2, *array.shape))
        return array.T if self.rng.integers(3) == 0 else array

    def bytes(self, *shape: int) -> Any:
        """Random uint8."""
        return self.rng.integers(0, 256, shape, dtype=np.uint8)

    def half(self) -> tuple[list[Any], int]:
        """Arguments of a well-formed half, and how many tables it has."""
        height, width, channels = (int(n) for n in self.rng.integers(1, 12, 3))
        shape, inputs = (height, width, channels), channels
        pixels, tables = bool(self.rng.integers(2)), int(self.rng.integers(1, 4))
        stages: list[dict[str, Any]] = []
        for index in range(int(self.rng.integers(1, 4))):
            image = pixels and index == 0
            linear = not image and self.rng.integers(3) == 0
            kind = "image_conv" if image else "binary_linear" if linear else "binary_conv"
            outputs = int(self.rng.integers(1, 70))
            pool = 1 if linear else int(self.rng.integers(1, min(height, width) + 1))
            stride = 1 if linear or pool > 1 else int(self.rng.integers(1, 3))
            taps = height * width if linear else 9
            table = (tables, outputs)
            stages.append(
                {
                    "kind": kind,
                    "in_channels": inputs,
                    "out_channels": outputs,
                    "pool": pool,
                    "stride": stride,
                    "weight": self.bytes(outputs, -(-taps * inputs // 8)),
                    "coefficients": np.ones(inputs, np.int32)
                    if image
                    else self.rng.integers(0, 128, inputs).astype(np.int32),
                    "threshold": self.rng.integers(-(2**31), 2**31, table).astype(np.int32),
                    "flip": self.bytes(*table),
                    "scale": np.zeros((0, 0), np.float32),
                    "bias": np.zeros((0, 0), np.float32),
                    "low_threshold": np.zeros((0, 0), np.int32),
                }
            )
            if index and self.rng.integers(2):  # the stage before gives two bits
                before = stages[-2]["threshold"].shape
                low = self.rng.integers(-(2**31), 2**31, before).astype(np.int32)
                if stages[-2]["kind"] != "image_conv":
                    stages[-2]["low_threshold"] = low
            if linear:
                height, width = 1, 1
            else:
                height, width = (-(-(side // pool) // stride) for side in (height, width))
            inputs = outputs
        plans = [
            (
                channels if pixels else int(self.rng.integers(1, channels + 1)),
                [int(self.rng.integers(1, stage["out_channels"] + 1)) for stage in stages],
            )
            for _ in range(tables)
        ]
        return [self.pick(_native.available()), shape, stages, plans], tables

    def spoil(self, arguments: list[Any]) -> None:
        """Replace one thing somewhere in ``arguments``."""
        where = int(self.rng.integers(6))
        if where < 3:
            stage = self.pick(arguments[2])
            field = self.pick(sorted(stage))
            if self.rng.integers(8) == 0:
                del stage[field]
            else:
                stage[field] = self.hostile()
        elif where == 3:
            plan = int(self.rng.integers(len(arguments[3])))
            arguments[3][plan] = self.pick((self.hostile(), (self.hostile(), self.hostile())))
        elif where == 4:
            arguments[1] = (*arguments[1][:2], self.pick(NUMBERS))
        else:
            arguments[int(self.rng.integers(4))] = self.hostile()

    def coder(self) -> dict[str, Any]:
        """Arguments of a well-formed context coder."""
        height, width, channels = (int(n) for n in self.rng.integers(1, 10, 3))
        hidden = 8 * int(self.rng.integers(1, 9))

        def weights(rows: int) -> Any:
            return self.rng.integers(-127, 128, (rows, hidden)).astype(np.int16)

        return {
            "height": height,
            "width": width,
            "base": weights(height * width),
            "neighbour": weights(4 * channels),
            "channel": weights(channels),
            "output": weights(channels),
            "bias": self.rng.integers(-9000, 9000, channels).astype(np.int32),
            "probability": self.rng.integers(1, 2**16, 1024).astype(np.uint16),
        }

    def code(self) -> bool:
        """One coder, round trips of its own and hostile payloads; True if it could be made."""
        arguments = self.coder()
        if self.rng.integers(2):
            arguments[self.pick(sorted(arguments))] = self.hostile()
        try:
            coder = _native.ContextCoder(**arguments)
        except EXPECTED:
            return False
        batch = int(self.rng.integers(0, 4))
        output: Any = np.empty((batch, coder.sample_bytes), np.uint8)
        payload = coder.encode(self.bytes(batch, coder.sample_bytes), int(self.rng.integers(400)))
        for given in (
            payload or b"",
            bytes(self.bytes(int(self.rng.integers(80)))),
            self.hostile(),
        ):
            try:
                coder.decode(given, output)
                decoder = coder.decoder(given)
                decoder.next(output)
                decoder.finished()
                decoder.next(self.hostile())
                coder.decode(given, self.hostile())
            except EXPECTED:
                continue
        for given, limit in ((self.hostile(), 100), (output, self.hostile())):
            try:
                coder.encode(given, limit)
            except EXPECTED:
                continue
        return True

    def call(self) -> bool:
        """One half and a few runs of it; True if one went through."""
        arguments, tables = self.half()
        for _ in range(int(self.rng.integers(3))):
            try:
                self.spoil(arguments)
            except (TypeError, KeyError, ValueError, IndexError, OverflowError, AttributeError):
                break  # what was to be spoilt is spoilt already
        try:
            half = _native.Half(*arguments)
        except EXPECTED:
            return False
        fine = False
        for plan in range(-1, tables + 1):
            try:
                batch = int(self.rng.integers(0, 4))
                given: Any = self.bytes(batch, half.input_bytes(plan))
                output: Any = np.empty((batch, half.output_bytes(plan)), np.uint8)
                if self.rng.integers(3) == 0:
                    output = np.empty((batch, half.output_bytes(plan) // 4), np.float32)
                if self.rng.integers(3) == 0:
                    given = self.hostile()
                if self.rng.integers(3) == 0:
                    output = self.hostile()
                half.run(given, plan, output)
            except EXPECTED:
                continue
            fine = True
        return fine


def main() -> None:
    """Fuzz until the time is over and say how much was tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    fuzzer = Fuzzer(options.seed)
    end = time.monotonic() + options.seconds
    calls = fine = coders = 0
    while time.monotonic() < end:
        calls += 1
        fine += fuzzer.call()
        coders += fuzzer.code()
    print(f"{calls} halves, {fine} of them ran; {calls} coders, {coders} were made; no crash")


if __name__ == "__main__":
    main()
