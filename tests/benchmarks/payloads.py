"""Measures payloads of real test images: their sizes, coding times, and how many are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.training.split.codec_tables import DICTIONARY_BYTES, DICTIONARY_IMAGES
from cloud.training.split.evaluate import device_features
from cloud.training.split.exit_calibration import answered_by_exit
from shared.model.bundle import Bundle, make_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import DICTIONARY, Encoding, FeatureCodec, train_dictionary
from tests.benchmarks.harness import calls, interleaved, microseconds

Features = npt.NDArray[np.uint8]
TIMED_SAMPLES = 256


@dataclass(frozen=True)
class Sizes:
    """Statistics of the payload bytes of single samples."""

    mean: float
    p50: float
    p99: float

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Sizes:
        """Compute the statistics of ``sizes``."""
        p50, p99 = np.percentile(sizes, (50, 99))
        return cls(round(float(np.mean(sizes)), 3), float(p50), float(p99))


def with_dictionaries(bundle: Bundle, images: npt.NDArray[np.uint8]) -> Bundle:
    """Return ``bundle`` with a zstd dictionary at every level, even if it does not help."""
    half = DeviceHalf(bundle)
    tensors = dict(bundle.tensors)
    for level in range(len(bundle.architecture.device_levels)):
        rows = device_features(half, images[:DICTIONARY_IMAGES], level)
        dictionary = train_dictionary(rows, DICTIONARY_BYTES)
        if dictionary.size:
            tensors[f"codec.{level}.{DICTIONARY}"] = dictionary
    return make_bundle(bundle.metadata, tensors)


def sizes_by_encoding(bundle: Bundle, features: Features, level: int) -> dict[str, Sizes]:
    """Return sizes by every encoding for which ``bundle`` has tables, and of what is sent.

    ``zstd_or_raw`` is what a codec without a context model would send.
    """
    codec = FeatureCodec(bundle)
    raw = [features.shape[1]] * len(features)
    found = {"raw": Sizes.of(raw)}
    for name, encoding in (("zstd", Encoding.ZSTD_DICT), ("context", Encoding.CONTEXT)):
        try:
            sizes = [len(codec.encode_as(row[None], level, encoding).payload) for row in features]
        except ValueError:
            continue  # the bundle has no tables for it
        found[name] = Sizes.of(sizes)
        if encoding is Encoding.ZSTD_DICT:
            found["zstd_or_raw"] = Sizes.of(np.minimum(sizes, raw).tolist())
    found.setdefault("zstd_or_raw", found["raw"])
    found["sent"] = Sizes.of([len(codec.encode(row[None], level).payload) for row in features])
    return found


def coding_us(bundle: Bundle, features: Features, level: int) -> tuple[float, float]:
    """Return the microseconds to encode and to decode one sample as it is sent."""
    codec = FeatureCodec(bundle)
    rows = [row[None] for row in features[:TIMED_SAMPLES]]
    frames = [codec.encode(row, level) for row in rows]
    turn = {"encode": 0, "decode": 0}

    def next_of(name: str, values: Sequence[Any]) -> Any:
        turn[name] = (turn[name] + 1) % len(values)
        return values[turn[name]]

    subjects: dict[str, Callable[[], Any]] = {
        "encode": lambda: codec.encode(next_of("encode", rows), level),
        "decode": lambda: codec.decode(next_of("decode", frames)),
    }
    times = interleaved({name: calls(subject) for name, subject in subjects.items()})
    return microseconds(times["encode"]), microseconds(times["decode"])


def stays_on_device(bundle: Bundle, features: Features, level: int) -> npt.NDArray[np.bool_]:
    """Return which samples (N,) the exit head answers at the bundle's own threshold."""
    exits = bundle.metadata.extra["exit"]
    logits = DeviceHalf(bundle).exit_logits(features, level)
    return answered_by_exit(logits, exits["threshold"][level], exits["temperature"][level])
