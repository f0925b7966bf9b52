"""Convert a bundle's device part to a constant blob for the C engine (``engine/taper_blob.h``).

The blob holds only the requested levels, and of every layer only the channels that the widest of
them uses. All numbers are little-endian 32-bit words; offsets count words from the start.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError
from shared.model.architecture import Kind, Shape, Stage, kernel_size
from shared.model.bits import unpack
from shared.model.bundle import Bundle
from shared.model.exits import NEVER_MARGIN, exit_tables, read_calibration
from shared.model.stage_tensors import StageTensors, largest_sum
from shared.protocol.context_model import ContextModel, context_model

MAGIC = int.from_bytes(b"TPR1", "little")
HEADER_WORDS = 33
STAGE_WORDS = 13
NAME_BYTES = 64
VERSION_BYTES = 8
KINDS = {Kind.IMAGE_CONV: 0, Kind.BINARY_CONV: 1, Kind.BINARY_LINEAR: 2}

Words = npt.NDArray[np.uint32]


@dataclass
class _Layout:
    """The words after the header; ``add`` returns the offset of each part."""

    parts: list[Words] = field(default_factory=list)
    end: int = HEADER_WORDS

    def add(self, words: Words) -> int:
        at = self.end
        self.parts.append(words)
        self.end += len(words)
        return at


def make_blob(bundle: Bundle, levels: Sequence[int]) -> bytes:
    """Return the blob of ``bundle`` for the device level indices ``levels``, ascending.

    It has the bundle's exit thresholds; without a calibration no sample stays on the device.
    ``BundleError`` for a network that the engine cannot run.
    """
    architecture, layout = bundle.architecture, _Layout()
    for stage in architecture.device:
        if stage.stride > 1:
            raise BundleError(f"stage {stage.name}: stride {stage.stride} is not for boards; pool")
    calibration = read_calibration(bundle)
    margins = [calibration.margins[level] if calibration else NEVER_MARGIN for level in levels]
    level_words = [
        np.array([level, round(architecture.device_levels[level] * 1e6)], np.uint32)
        for level in levels
    ]
    thresholds = [np.array([margin], np.uint64).view(np.uint32) for margin in margins]
    pairs = zip(level_words, thresholds, strict=True)
    levels_at = layout.add(np.concatenate([word for pair in pairs for word in pair]))
    stages = _stages(bundle, levels)
    records = [_record(layout, *stage) for stage in stages]
    exit_at = layout.add(_exit_record(layout, bundle, levels)) if architecture.exit_head else 0
    stages_at = layout.add(np.concatenate(records))
    model = context_model(bundle)
    context_at = 0 if model is None else layout.add(_context(model, levels))
    shape, name = architecture.input_shape, bundle.metadata.name.encode()
    if len(name) > NAME_BYTES:
        raise BundleError(
            f"bundle {bundle.metadata.name}: its name is longer than {NAME_BYTES} bytes"
        )
    version = np.frombuffer(bytes.fromhex(bundle.metadata.version)[:VERSION_BYTES], np.uint32)
    header = [
        *version.tolist(),
        *(shape.height, shape.width, shape.channels, architecture.classes),
        *(len(records), stages_at, len(levels), levels_at, exit_at),
        *(0 if model is None else model.weight.shape[1], context_at, len(name)),
        *np.frombuffer(name.ljust(NAME_BYTES, b"\0"), np.uint32).tolist(),
    ]
    body = np.concatenate([np.array(header, np.uint32), *layout.parts]).astype("<u4").tobytes()
    start = np.array([MAGIC, layout.end, zlib.crc32(body)], "<u4").tobytes()
    return start + body


@dataclass(frozen=True)
class _Kept:
    """A stage reduced to the channels that the widest level in the blob uses."""

    stage: Stage
    shape: Shape  # shape of its input with the kept channels
    out: tuple[int, ...]  # number of outputs by level
    tensors: StageTensors
    levels: tuple[int, ...]


def _stages(bundle: Bundle, levels: Sequence[int]) -> list[tuple[_Kept]]:
    by_level = [list(bundle.architecture.device_shapes(level)) for level in levels]
    kept = []
    for entries in zip(*by_level, strict=True):
        stage, before, _ = entries[-1]
        out = tuple(after.channels for _, _, after in entries)
        tensors = bundle.stage("device", stage.name)
        kept.append((_Kept(stage, before, out, tensors, tuple(levels)),))
    return kept


def _signs(kept: _Kept, outputs: int) -> npt.NDArray[np.uint8]:
    """Return the weight bits (outputs, taps, inputs) of the kept channels."""
    height, width = kernel_size(kept.stage, kept.shape)
    whole = unpack(kept.tensors.weight, height * width * kept.stage.in_channels)
    # (out, taps * in) -> (out, taps, in)
    bits = whole.reshape(len(whole), height * width, kept.stage.in_channels)
    return bits[:outputs, :, : kept.shape.channels].astype(np.uint8)


def _words(bits: npt.NDArray[np.uint8]) -> Words:
    """Pack bits (..., n) into words (..., ceil(n / 32)), lowest bit first."""
    spare = -bits.shape[-1] % 32
    padded = np.concatenate([bits, np.zeros((*bits.shape[:-1], spare), np.uint8)], axis=-1)
    return np.packbits(padded, axis=-1, bitorder="little").view("<u4").astype(np.uint32)


def _weights(kept: _Kept, outputs: int) -> Words:
    signs = _signs(kept, outputs)
    if kept.stage.kind is Kind.IMAGE_CONV:
        return _kernel_rows(signs)
    # (out, taps, words) -> (out, words, taps)
    return _words(signs).transpose(0, 2, 1).reshape(-1)


def _kernel_rows(signs: npt.NDArray[np.uint8]) -> Words:
    """Pack weight bits (outputs, 9, colours) in groups of three, for ``weights_of_pixels``."""
    outputs, _, colours = signs.shape
    # (out, row, column, colour) -> (out, row * colour, column)
    groups = signs.reshape(outputs, 3, 3, colours).transpose(0, 1, 3, 2).reshape(outputs, -1, 3)
    groups = np.pad(groups, ((0, 0), (0, -groups.shape[1] % 10), (0, 0)))
    # Ten groups in a word: (out, words, 30).
    return _words(groups.reshape(outputs, -1, 30)).reshape(-1)


def _coefficients(kept: _Kept) -> tuple[int, Words]:
    """Return the number of bit planes and the words; 0 if 8 channels share a coefficient."""
    values = kept.tensors.coefficients[: kept.shape.channels].astype(np.int64)
    groups = np.pad(values, (0, -len(values) % 8), mode="edge").reshape(-1, 8)
    if np.all(groups == groups[:, :1]):
        # (bytes,) -> (words, 4 bytes); see taper_blob.h for the order
        of_byte = np.pad(groups[:, 0], (0, -len(groups) % 4)).reshape(-1, 4)
        pairs = of_byte[:, :2] << 16 | of_byte[:, 2:]
        return 0, pairs.reshape(-1).astype(np.uint32)
    planes = int(values.max()).bit_length()
    bits = (values >> np.arange(planes)[:, None] & 1).astype(np.uint8)
    # (planes, words) -> (words, planes)
    return planes, _words(bits).T.reshape(-1)


def _record(layout: _Layout, kept: _Kept) -> Words:
    stage, tensors, outputs = kept.stage, kept.tensors, max(kept.out)
    rows = list(kept.levels)
    thresholds = tensors.threshold[rows, :outputs]
    reach = largest_sum(tensors.coefficients, stage, kept.shape) + 1
    thresholds = np.clip(thresholds, -reach, reach)
    wide = reach > np.iinfo(np.int16).max
    flips = _words(tensors.flip[rows, :outputs])
    return _stage_words(layout, kept, _table(thresholds, wide), flips.reshape(-1), wide)


def _table(values: npt.NDArray[np.int32], wide: bool) -> Words:
    """Pack a table (levels, n); int16 values in pairs, each level padded to whole words."""
    if wide:
        return values.astype("<i4").view("<u4").reshape(-1).astype(np.uint32)
    padded = np.pad(values, ((0, 0), (0, values.shape[1] % 2))).astype("<i2")
    return np.ascontiguousarray(padded).view("<u4").reshape(-1).astype(np.uint32)


def _stage_words(layout: _Layout, kept: _Kept, first: Words, second: Words, wide: bool) -> Words:
    planes, coefficients = _coefficients(kept)
    if kept.stage.kind is Kind.IMAGE_CONV:
        planes, coefficients = 0, np.zeros(0, np.uint32)
    outputs, shape = max(kept.out), kept.shape
    return np.array(
        [
            *(KINDS[kept.stage.kind], kept.stage.pool, shape.height, shape.width),
            *(shape.channels, outputs, planes, layout.add(coefficients)),
            *(layout.add(_weights(kept, outputs)), int(wide), layout.add(first)),
            *(layout.add(second), layout.add(np.array(kept.out, np.uint32))),
        ],
        np.uint32,
    )


def _exit_record(layout: _Layout, bundle: Bundle, levels: Sequence[int]) -> Words:
    architecture = bundle.architecture
    stage = architecture.exit_stage
    if stage is None:
        raise BundleError(f"network {architecture.name}: has no exit head")
    tensors = bundle.stage("exit", "exit")
    shape = architecture.sent_shape(levels[-1])
    out = (architecture.classes,) * len(levels)
    scale, bias = (table[list(levels)].astype(np.int32) for table in exit_tables(bundle))
    kept = _Kept(stage, shape, out, tensors, tuple(levels))
    return _stage_words(layout, kept, _table(scale, True), _table(bias, True), True)


def _context(model: ContextModel, levels: Sequence[int]) -> Words:
    full = model.architecture.sent_shape(len(model.architecture.device_levels) - 1)
    sent = model.architecture.sent_shape(levels[-1])
    edges = np.cumsum([full.channels] * 6 + [full.height, full.width])
    *by_channel, rows, columns, by_level = np.split(model.weight, edges)
    cut = [part[: sent.channels] for part in by_channel]
    weight = np.concatenate([*cut, rows, columns, by_level[list(levels)]])
    bias = model.bias[list(levels), : sent.channels].astype("<i2").tobytes()
    content = weight.astype(np.int8).tobytes() + bias
    return np.frombuffer(content.ljust(-(-len(content) // 4) * 4, b"\0"), "<u4").astype(np.uint32)
