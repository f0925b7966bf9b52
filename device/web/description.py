"""Describe a model's device half for a page: levels, costs, classes and exit head."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from shared.energy.hardware import HARDWARE, Hardware
from shared.energy.model import EnergyModel, device_work, exit_work
from shared.model.architecture import Architecture
from shared.model.bundle import Bundle
from shared.model.exits import ONE, exit_tables, read_calibration
from shared.model.looks import ask_table


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return the description as a JSON value; lists over levels begin with the narrowest."""
    architecture, meta = bundle.architecture, bundle.metadata
    levels = range(len(architecture.device_levels))
    shape = architecture.input_shape
    return {
        "name": meta.name,
        "version": meta.version,
        "input": {"height": shape.height, "width": shape.width, "channels": shape.channels},
        "preprocessing": meta.steps.to_json(),
        "classes": list(meta.class_names),
        "fractions": list(architecture.device_levels),
        "cloud_fractions": list(architecture.cloud_levels),
        "macs": [architecture.device_macs(level) for level in levels],
        "sent_channels": [architecture.sent_shape(level).channels for level in levels],
        "ask_below": ask_table(bundle),
        "exit": _exit_head(bundle),
        "energy": {name: _energy(architecture, hardware) for name, hardware in HARDWARE.items()},
    }


def _energy(architecture: Architecture, hardware: Hardware) -> dict[str, Any]:
    """Return joules of computing each level, of an empty exchange, and of a payload's byte.

    Each byte costs the same as long as a request fits into one packet, as these payloads do.
    """
    model = EnergyModel(hardware)
    levels = range(len(architecture.device_levels))
    return {
        "title": hardware.title,
        "compute_j": [
            hardware.sensor_j
            + model.compute_j(device_work(architecture, level) + exit_work(architecture, level))
            for level in levels
        ],
        "exchange_j": model.exchange_j(0),
        "byte_j": hardware.sent_byte_j,
    }


def _exit_head(bundle: Bundle) -> dict[str, Any] | None:
    """Return weights and tables of the exit head for exit.js; None if there is none."""
    if not bundle.architecture.exit_head:
        return None
    tensors, calibration = bundle.stage("exit", "exit"), read_calibration(bundle)
    scale, bias = exit_tables(bundle)
    levels = len(bundle.architecture.device_levels)
    channels = bundle.architecture.sent_shape(levels - 1).channels
    return {
        "weights": [b64encode(row.tobytes()).decode() for row in tensors.weight],
        "coefficients": tensors.coefficients[:channels].tolist(),
        "scale": (scale / ONE).tolist(),
        "bias": (bias / ONE).tolist(),
        "temperature": [1.0] * levels if calibration is None else list(calibration.temperature),
        "threshold": None if calibration is None else list(calibration.threshold),
    }
