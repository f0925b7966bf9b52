"""``python -m tests.benchmarks.kernels``: the packed runtime against float and int8 libraries.

Layers are timed as a half runs them, from packed map to packed map, in the native module's own
loop; the halves, torch and ONNX Runtime are timed as Python calls. One thread, one CPU, one image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.training.split.architectures import compact
from shared import profiles
from shared.bundles import shipped
from shared.model.architecture import Kind, Shape, Stage
from shared.model.bundle import Bundle, read_bundle
from shared.model.stage_tensors import StageTensors
from shared.packed import CloudHalf, DeviceHalf, _native, kernels
from shared.packed.reference import ReferenceStage
from tests.benchmarks.harness import (
    Check,
    Report,
    Subject,
    best_of,
    calls,
    interleaved,
    main,
    microseconds,
    ratio,
    table,
)
from tests.benchmarks.peers import conv3x3, layers_of, peers
from tests.support.networks import random_bundle, random_images

SHAPES = ((28, 8), (28, 32), (28, 64), (14, 64), (14, 128), (8, 256))
PROFILES = {"plain": "all-one", "staircase": "staircase", "linear": "linear"}
COMPILED = [name for name in kernels.available() if name != kernels.NUMPY]
BEST = COMPILED[0]
HALVES_MODEL = "mnist-binary"
STAND_IN = f"{HALVES_MODEL} (random numbers)"
Times = dict[str, list[float]]

RNG = np.random.default_rng(0)


def stage_numbers(inputs: int, outputs: int, profile: str) -> StageTensors:
    """Make a 3x3 stage of random numbers."""
    return StageTensors(
        weight=RNG.integers(0, 256, (outputs, -(-9 * inputs // 8)), dtype=np.uint8),
        coefficients=profiles.quantise(profiles.coefficients(profile, inputs)),
        threshold=RNG.integers(-50, 50, (1, outputs)).astype(np.int32),
        flip=RNG.integers(0, 2, (1, outputs)).astype(np.uint8),
        scale=np.zeros((0, 0), np.float32),
        bias=np.zeros((0, 0), np.float32),
    )


def native_layer(
    kernel: str, side: int, channels: int, profile: str, kept: int | None = None
) -> Subject:
    """Time a 3x3 layer within a half, with ``kept`` of its input and output channels in use."""
    stages: list[dict[str, Any]] = []
    for outputs in (channels, 8):  # the next layer decides how the bits are repacked
        numbers = vars(stage_numbers(channels, outputs, PROFILES[profile]))
        described = {"kind": "binary_conv", "in_channels": channels, "out_channels": outputs}
        stages.append({**described, "pool": 1, "stride": 1, **numbers})
    kept = channels if kept is None else kept
    half = _native.Half(kernel, (side, side, channels), stages, [(kept, [kept, 8])])
    bits = RNG.integers(0, 256, (1, half.input_bytes(0)), dtype=np.uint8)
    return lambda count: half.profile(bits, 0, count)[1]


def numpy_layer(side: int, channels: int) -> Subject:
    """Time the same layer in the reference."""
    stage = Stage("layer", Kind.BINARY_CONV, channels, channels)
    shape = Shape(side, side, channels)
    runner = ReferenceStage(stage, shape, stage_numbers(channels, channels, "staircase"))
    x = RNG.choice(np.array([-1, 1], np.float32), (1, side, side, channels))
    return calls(lambda: runner.bits(runner.sums(x, channels), 0))


def measure_layer(side: int, channels: int) -> Times:
    """Time our implementations with every profile, the other libraries, and the reference."""
    subjects: dict[str, Subject] = {
        f"{kernel} {profile}": native_layer(kernel, side, channels, profile)
        for kernel in COMPILED
        for profile in PROFILES
    }
    subjects |= peers(conv3x3(channels, channels, side))
    times = interleaved(subjects)
    times |= interleaved({"numpy": numpy_layer(side, channels)}, rounds=5)
    return times


def torch_best(times: Times, kind: str) -> list[float]:
    """Return the times of torch's faster layout."""
    return best_of(times[f"torch {kind}"], times[f"torch {kind} channels_last"])


def layer_checks(times: dict[tuple[int, int], Times]) -> list[Check]:
    """Make the checks on single layers."""
    wide, deep, narrow = times[28, 64], times[14, 128], times[28, 8]
    ours = f"{BEST} staircase"
    checks = []

    def faster(name: str, peer: list[float], own: list[float], target: float) -> None:
        checks.append(Check(name, round(ratio(peer, own), 3), "x", target, "higher"))

    for name, found in (("conv64", wide), ("conv128", deep)):
        faster(f"{name}_vs_torch_f32", torch_best(found, "f32"), found[ours], 14)
    faster("conv8_vs_torch_f32", torch_best(narrow, "f32"), narrow[f"{BEST} plain"], 60)
    for name, found in (("conv64", wide), ("conv128", deep)):
        faster(f"{name}_vs_torch_bf16", torch_best(found, "bf16"), found[ours], 7)
    for name, found in (("conv64", wide), ("conv128", deep)):
        faster(f"{name}_vs_ort_int8", found["ort int8"], found[ours], 3.8)
    plain = wide[f"{BEST} plain"]
    for profile, target in (("staircase", 1.2), ("linear", 2.0)):
        value = round(ratio(wide[f"{BEST} {profile}"], plain), 3)
        checks.append(Check(f"{profile}_vs_plain", value, "x", target, "lower"))
    for kernel, target in (("avx2", 3.0), ("portable", 1.3)):
        if kernel in COMPILED:
            own = wide[f"{kernel} staircase"]
            faster(f"{kernel}_vs_torch_f32", torch_best(wide, "f32"), own, target)
        else:
            checks.append(Check(f"{kernel}_vs_torch_f32", None, "x", target, "higher"))
    return checks


def measure_peak() -> tuple[dict[str, Any], Check]:
    """Measure the peak of binary multiply-accumulates a second, and the best plain layer's share.

    The peak is exclusive-or, popcount of bytes and add over twelve chains of registers, with no
    memory in the loop. A layer counts 9 * height * width * inputs * outputs; work on margins and
    on unused lanes, comparing, setting bits and repacking lower its share.
    """
    layers = {
        f"{side}x{side} {channels}": (9 * side**2 * channels**2, side, channels)
        for side, channels in SHAPES
    }
    subjects: dict[str, Subject] = {"peak": lambda _: 1 / _native.peak(BEST)}
    for name, (_, side, channels) in layers.items():
        subjects[name] = native_layer(BEST, side, channels, "plain")
    times = interleaved(subjects, rounds=15)
    shares = {
        name: ratio([macs * peak for peak in times["peak"]], times[name])
        for name, (macs, _, _) in layers.items()
    }
    best = max(shares, key=lambda name: shares[name])
    results = {
        "kernel": BEST,
        "peak_gmac_s": round(1e-9 / min(times["peak"]), 1),
        "best_shape": best,
        "shares": {name: round(share, 3) for name, share in shares.items()},
    }
    return results, Check("peak_share", round(shares[best], 3), "of peak", 0.7, "higher")


def measure_fractions() -> tuple[dict[str, Any], list[Check]]:
    """Compare a layer with truncated inputs and outputs with the full one."""
    side, channels = 28, 64
    counts = {1.0: 64, 0.75: 48, 0.5: 32, 0.25: 16, 0.125: 8}
    times = interleaved(
        {
            str(fraction): native_layer(BEST, side, channels, "staircase", kept)
            for fraction, kept in counts.items()
        },
        rounds=15,
    )
    shares = {name: round(ratio(found, times["1.0"]), 3) for name, found in times.items()}
    checks = [
        Check("half_fraction_time", shares["0.5"], "of full", 0.30, "lower"),
        Check("quarter_fraction_time", shares["0.25"], "of full", 0.12, "lower"),
    ]
    return {"time_of_full": shares, "microseconds": _medians(times)}, checks


def bundles() -> dict[str, Bundle]:
    """Return the bundles that ship, or a network of the same shape with random numbers."""
    found = {name: read_bundle(path) for name, path in shipped().items()}
    if HALVES_MODEL not in found:
        found[STAND_IN] = random_bundle(compact(Shape(28, 28, 1), 10))
    return found


def measure_halves(bundle: Bundle, full: bool) -> dict[str, dict[str, Any]]:
    """Time both halves at every level, and other libraries at full width (``full``: all levels)."""
    architecture = bundle.architecture
    device_top = len(architecture.device_levels) - 1
    cloud_top = len(architecture.cloud_levels) - 1
    image = random_images(architecture.input_shape, 1)
    results: dict[str, dict[str, Any]] = {"device": {}, "cloud": {}}
    names = [*COMPILED, kernels.NUMPY]
    devices = {name: DeviceHalf(bundle, name) for name in names}
    clouds = {name: CloudHalf(bundle, name) for name in names}
    for level, fraction in enumerate(architecture.device_levels):
        compare = full or level == device_top
        subjects = {name: _device_call(devices[name], image, level) for name in COMPILED}
        if compare:
            subjects |= peers(layers_of(architecture.device_shapes(level)))
        times = interleaved(subjects, rounds=9 if compare else 5, seconds=0.005)
        if compare:
            slow = {"numpy": _device_call(devices["numpy"], image, level)}
            times |= interleaved(slow, rounds=5, seconds=0.005)
        results["device"][f"{fraction:g}"] = _medians(times)
        features = devices[BEST].run(image, level)
        for cloud_level, cloud_fraction in enumerate(architecture.cloud_levels):
            at_top = level == device_top and cloud_level == cloud_top
            if not (full or level == device_top or cloud_level == cloud_top):
                continue
            pair = (level, cloud_level)
            subjects = {name: _cloud_call(clouds[name], features, *pair) for name in COMPILED}
            if full or at_top:
                subjects |= peers(layers_of(architecture.cloud_shapes(*pair)))
            times = interleaved(subjects, rounds=9 if at_top else 5, seconds=0.005)
            if full or at_top:
                slow = {"numpy": _cloud_call(clouds["numpy"], features, *pair)}
                times |= interleaved(slow, rounds=5, seconds=0.005)
            results["cloud"][f"{fraction:g}/{cloud_fraction:g}"] = _medians(times)
    return results


def run(full: bool) -> Report:
    """Measure everything."""
    report = Report()
    layers = {shape: measure_layer(*shape) for shape in SHAPES}
    report.results["layers"] = {
        f"{side}x{side} C{channels}": _medians(times) for (side, channels), times in layers.items()
    }
    report.results["gmac_s"] = {
        f"{side}x{side} C{channels}": {
            kernel: round(9e-9 * (side * channels) ** 2 / min(times[f"{kernel} plain"]), 1)
            for kernel in COMPILED
        }
        for (side, channels), times in layers.items()
    }
    report.checks += layer_checks(layers)
    report.results["peak"], share = measure_peak()
    report.results["fractions"], fractions = measure_fractions()
    report.checks += [share, *fractions]
    halves = {name: measure_halves(bundle, full) for name, bundle in bundles().items()}
    report.results["halves"] = halves
    flagship = next(name for name in halves if name in (HALVES_MODEL, STAND_IN))
    device = next(reversed(halves[flagship]["device"].values()))[BEST]
    cloud = halves[flagship]["cloud"]["1/1"][BEST]
    report.checks += [
        Check("device_half_us", device, "us", 8, "lower"),
        Check("cloud_half_us", cloud, "us", 30, "lower"),
    ]
    report.tables = [_layer_table(report.results["layers"])]
    for name, found in halves.items():
        report.tables += _half_tables(name, found)
    return report


def _layer_table(layers: dict[str, dict[str, float]]) -> Any:
    columns = list(next(iter(layers.values())))
    rows = [(column, *(f"{found[column]:.2f}" for found in layers.values())) for column in columns]
    return table("binary 3x3 layers, microseconds, one image", ("", *layers), rows)


def _half_tables(name: str, halves: dict[str, dict[str, Any]]) -> list[Any]:
    tables = []
    for half, levels in halves.items():
        names = max((list(found) for found in levels.values()), key=len)
        rows = [
            (n, *(f"{found[n]:.1f}" if n in found else "" for found in levels.values()))
            for n in names
        ]
        title = f"{name}: {half} half by level, microseconds, one image"
        tables.append(table(title, ("", *levels), rows))
    return tables


def _device_call(half: DeviceHalf, image: npt.NDArray[np.uint8], level: int) -> Subject:
    return calls(lambda: half.run(image, level))


def _cloud_call(
    half: CloudHalf, features: npt.NDArray[np.uint8], level: int, cloud_level: int
) -> Subject:
    return calls(lambda: half.run(features, level, cloud_level))


def _medians(times: Times) -> dict[str, float]:
    return {name: microseconds(found) for name, found in times.items()}


if __name__ == "__main__":
    main("kernels", __doc__ or "", run)
