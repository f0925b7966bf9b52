"""Compute the RAM that a device half needs on a board from its architecture."""

from __future__ import annotations

from collections.abc import Sequence

from shared.model.architecture import Architecture, Kind, Shape, Stage

WORD_BYTES = 4


def arena_bytes(architecture: Architecture, levels: Sequence[int]) -> int:
    """Return the bytes of ``taper_run``'s arena for these levels: two maps and a scratch area."""
    maps, scratch = [0, 0], 0
    entries = list(architecture.device_shapes(levels[-1]))
    for index, (stage, before, after) in enumerate(entries):
        size = after.height * after.width * -(-after.channels // 32)
        maps[index % 2] = max(maps[index % 2], size)
        scratch = max(scratch, _scratch_words(stage, before, after.channels))
    if architecture.exit_stage is not None:
        sent = architecture.sent_shape(levels[-1])
        words = _scratch_words(architecture.exit_stage, sent, architecture.classes)
        scratch = max(scratch, words)
    return WORD_BYTES * (sum(maps) + scratch)


def _scratch_words(stage: Stage, before: Shape, outputs: int) -> int:
    """Compute the same as ``taper_scratch_words`` of the engine's taper_model.c."""
    if stage.kind is Kind.IMAGE_CONV:
        return outputs + (stage.pool + 2) * ((stage.pool + 1) // 2) * before.channels * 8
    words = -(-before.channels // 32)
    if stage.kind is Kind.BINARY_LINEAR:
        return outputs + (0 if words == 1 else words * before.height * before.width)
    return outputs + stage.pool**2 * words * 9
