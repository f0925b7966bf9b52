"""The C engine as a shared library of the host, called through ctypes with any blob."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.micro.footprint import ENGINE

_U32 = ctypes.c_uint32


class _Model(ctypes.Structure):
    _fields_ = (
        ("words", ctypes.c_void_p),
        *((name, _U32) for name in ("height", "width", "channels", "classes")),
        *((name, _U32) for name in ("stages", "levels", "hidden", "has_exit")),
        ("arena_bytes", ctypes.c_size_t),
    )


class _Sample(ctypes.Structure):
    _fields_ = (
        *((name, _U32) for name in ("level", "number", "height", "width", "channels")),
        ("map", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
    )


class _Exit(ctypes.Structure):
    _fields_ = (("label", _U32), ("margin", ctypes.c_int64), ("stays", ctypes.c_int))


class Engine:
    """One blob, opened by the engine; raises ``AssertionError`` if it refuses anything."""

    def __init__(self, library: ctypes.CDLL, blob: bytes) -> None:
        self._library = library
        self._blob = np.frombuffer(blob, np.uint32).copy()
        self._model = _Model()
        data = self._blob.ctypes.data_as(ctypes.c_void_p)
        size = ctypes.c_size_t(len(blob))
        assert library.taper_open(ctypes.byref(self._model), data, size) == 0
        self._arena = np.zeros(self._model.arena_bytes // 4 + 1, np.uint32)

    @property
    def model_pointer(self) -> Any:
        """The opened model, for other functions of the library."""
        return ctypes.pointer(self._model)

    def ask(self, image: npt.NDArray[np.uint8], level: int) -> tuple[int, int, bool]:
        """Label, margin and decision of the exit head for one image (H, W, C)."""
        sample, answer = _Sample(), _Exit()
        pixels = np.ascontiguousarray(image)
        status = self._library.taper_run(
            ctypes.byref(self._model),
            _U32(level),
            pixels.ctypes.data_as(ctypes.c_void_p),
            self._arena.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_size_t(self._arena.nbytes),
            ctypes.byref(sample),
        )
        assert status == 0
        arguments = (ctypes.byref(self._model), ctypes.byref(sample), ctypes.byref(answer))
        assert self._library.taper_ask_exit(*arguments) == 0
        return answer.label, answer.margin, bool(answer.stays)


def build_library(folder: Path) -> ctypes.CDLL:
    """The engine for this machine."""
    target = folder / "engine.so"
    sources = map(str, sorted(ENGINE.glob("*.c")))
    subprocess.run(
        ["gcc", "-std=c99", "-O1", "-fPIC", "-shared", *sources, "-o", target], check=True
    )
    return ctypes.CDLL(str(target))
