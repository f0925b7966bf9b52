"""Make responses from logits: labels, candidates, and the serialised message."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.packed import kernels
from shared.protocol.messages import Answer, Hints, More, Response, serialise_response

if kernels.missing_reason() == "":
    from shared.packed import _native

Logits = npt.NDArray[np.float32]  # (N, classes)
Computed = tuple[int, int, int]  # (cloud level, microseconds queued, microseconds of computing)


def respond(
    request_id: int,
    top_k: int,
    logits: Logits,
    computed: Computed,
    hints: Hints | None,
    more: More | None = None,
) -> bytes:
    """Return the serialised response: a label for each sample, with its ``top_k`` candidates."""
    if kernels.current() == kernels.NUMPY:
        return serialise_response(to_response(request_id, top_k, logits, computed, hints, more))
    load = None if hints is None else hints.load
    level = None if hints is None else hints.suggested_level
    return _native.respond(logits, request_id, top_k, computed, load, level, more)


def to_response(
    request_id: int,
    top_k: int,
    logits: Logits,
    computed: Computed,
    hints: Hints | None,
    more: More | None = None,
) -> Response:
    """Return the response that ``respond`` serialises."""
    labels = logits.argmax(axis=1).tolist()
    if top_k:
        rows = probabilities(logits)
        answers = tuple(
            Answer(label, best(row, top_k)) for label, row in zip(labels, rows, strict=True)
        )
    else:
        answers = tuple([Answer(label) for label in labels])
    return Response(request_id, answers, *computed, None, hints, more)


def probabilities(logits: Logits) -> Logits:
    """Return the softmax over the last axis, in the same shape."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Logits = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def best(row: npt.NDArray[np.float32], count: int) -> tuple[tuple[int, float], ...]:
    """Return the ``count`` largest probabilities of ``row`` (classes,) as (label, probability)."""
    order = np.argsort(-row, kind="stable")[:count]
    return tuple((int(label), float(row[label])) for label in order)
