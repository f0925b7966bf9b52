"""The fleet's messages of the C engine, called through ctypes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from tests.support.engine import Engine

_U32, _TEXT = ctypes.c_uint32, ctypes.c_char_p
ROOM = 1024
SENTINEL = 0x5A


class _Member(ctypes.Structure):
    _fields_ = (("device", _TEXT), ("epoch", _TEXT), ("session", _U32))


class _Birth(ctypes.Structure):
    _fields_ = (
        *(("next_sequence", _U32), ("unix_s", _U32)),
        *(("hardware", _TEXT), ("software", _TEXT), ("model", ctypes.c_void_p)),
    )


class _Desired(ctypes.Structure):
    _fields_ = (("version", _U32), ("fraction", _U32), ("refused", _U32))


NUMBERS = (
    *("sequence", "unix_s", "period_ms", "battery", "fraction", "cloud_fraction"),
    *("answered_device", "answered_cloud", "failed", "payload_bytes", "reported_version"),
    *("dropped", "energy_mj", "latency_us", "latency_max_us"),
)


class _Telemetry(ctypes.Structure):
    _fields_ = (
        *((name, _U32) for name in NUMBERS),
        ("plugged", ctypes.c_int),
        *(("model", _TEXT), ("model_version", _TEXT), ("error", _TEXT)),
    )


@dataclass(frozen=True)
class Written:
    """What a writer returned: its status and, if that is 0, the payload."""

    status: int
    payload: bytes


class FleetEngine:
    """Writes as one member of a fleet."""

    def __init__(self, library: ctypes.CDLL, device: str, epoch: str, session: int) -> None:
        self._library = library
        self._member = _Member(device.encode(), epoch.encode(), session)

    def birth(
        self, sequence: int, unix_s: int, texts: tuple[str, str], engine: Engine | None
    ) -> Written:
        hardware, software = texts
        model = None if engine is None else ctypes.cast(engine.model_pointer, ctypes.c_void_p)
        value = _Birth(sequence, unix_s, hardware.encode(), software.encode(), model)
        return self._write("taper_write_birth", ctypes.byref(value))

    def death(self, reason: str) -> Written:
        return self._write("taper_write_death", reason.encode())

    def reported(
        self, desired: tuple[int, int, int], unix_s: int, version: str, room: int = ROOM
    ) -> Written:
        value = _Desired(*desired)
        arguments = (ctypes.byref(value), _U32(unix_s), version.encode())
        return self._write("taper_write_reported", *arguments, room=room)

    def telemetry(
        self, numbers: dict[str, int], plugged: bool, texts: tuple[str, str, str]
    ) -> Written:
        values = (numbers[name] for name in NUMBERS)
        value = _Telemetry(*values, int(plugged), *(text.encode() for text in texts))
        return self._write("taper_write_telemetry", ctypes.byref(value))

    def read_desired(self, payload: bytes) -> tuple[int, int, int] | None:
        """Version, fraction in millionths, refused settings; None if it is no desired state."""
        value = _Desired(7, 7, 7)
        status = self._library.taper_read_desired(
            payload, ctypes.c_size_t(len(payload)), ctypes.byref(value)
        )
        found = (value.version, value.fraction, value.refused)
        if status:
            assert found == (7, 7, 7)
            return None
        return found

    def _write(self, function: str, *arguments: object, room: int = ROOM) -> Written:
        buffer = (ctypes.c_ubyte * (room + 1))(*[SENTINEL] * (room + 1))
        size = ctypes.c_size_t()
        status = getattr(self._library, function)(
            *(ctypes.byref(self._member), *arguments, buffer),
            *(ctypes.c_size_t(room), ctypes.byref(size)),
        )
        assert buffer[room] == SENTINEL
        return Written(status, b"" if status else bytes(buffer[: size.value]))
