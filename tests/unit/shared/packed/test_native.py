"""The compiled kernels against the numpy reference, on the shapes that ship and on bad input."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

import shared.bundles
from cloud.training.split.architectures import compact, paper, wide_colour
from shared.data.sample import sample_digits
from shared.errors import BundleError, UsageError
from shared.model.architecture import Architecture, Kind, Shape, Stage
from shared.model.bundle import Bundle, read_bundle
from shared.packed import CloudHalf, DeviceHalf, kernels
from tests.support.networks import random_bundle, random_images

COMPILED = [name for name in kernels.available() if name != kernels.NUMPY]
SHIPPED = sorted(Path(shared.bundles.__path__[0]).glob("*.safetensors"))
DIGITS = Shape(28, 28, 1)
NETWORKS = {
    "paper": paper(DIGITS, 10),
    "paper-colour": paper(Shape(32, 32, 3), 10),
    "compact": compact(DIGITS, 10),
    "wide-colour": wide_colour(Shape(32, 32, 3), 10),
}

if not COMPILED:
    if os.environ.get("TAPER_REQUIRE_NATIVE", "0") not in ("", "0"):
        pytest.fail(f"no compiled kernels: {kernels.missing_reason()}", pytrace=False)
    pytest.skip("no compiled kernels here", allow_module_level=True)


class Expected(NamedTuple):
    """What numpy gives for images; numpy is slow, so that all kernels are compared with one run."""

    bundle: Bundle
    images: npt.NDArray[np.uint8]
    features: list[npt.NDArray[np.uint8]]  # by device level
    exit_logits: list[npt.NDArray[np.int64]]  # by device level, if there is an exit head
    logits: dict[tuple[int, int], npt.NDArray[np.float32]]  # by device and cloud level


def by_numpy(bundle: Bundle, images: npt.NDArray[np.uint8]) -> Expected:
    architecture = bundle.architecture
    device, cloud = DeviceHalf(bundle, kernels.NUMPY), CloudHalf(bundle, kernels.NUMPY)
    levels = range(len(architecture.device_levels))
    features = [device.run(images, level) for level in levels]
    exit_logits = []
    if architecture.exit_head:
        exit_logits = [device.exit_logits(features[level], level) for level in levels]
    logits = {
        (level, cloud_level): cloud.run(features[level], level, cloud_level)
        for level in levels
        for cloud_level in range(len(architecture.cloud_levels))
    }
    return Expected(bundle, images, features, exit_logits, logits)


@cache
def random_network(name: str) -> Expected:
    return by_numpy(random_bundle(NETWORKS[name]), random_images(NETWORKS[name].input_shape, 3))


@cache
def shipped_network(path: Path) -> Expected:
    bundle = read_bundle(path)
    shape = bundle.architecture.input_shape
    images = random_images(shape, 8)
    if shape == DIGITS:
        images = sample_digits()[0][:50, :, :, None]
    return by_numpy(bundle, images)


def assert_equal_halves(expected: Expected, kernel: str) -> None:
    """Every level of both halves and of the exit head gives the bits that numpy gives."""
    device, cloud = DeviceHalf(expected.bundle, kernel), CloudHalf(expected.bundle, kernel)
    for level, features in enumerate(expected.features):
        np.testing.assert_array_equal(device.run(expected.images, level), features)
    for level, exit_logits in enumerate(expected.exit_logits):
        features = expected.features[level]
        np.testing.assert_array_equal(device.exit_logits(features, level), exit_logits)
    for (level, cloud_level), logits in expected.logits.items():
        features = expected.features[level]
        np.testing.assert_array_equal(cloud.run(features, level, cloud_level), logits)


@pytest.mark.parametrize("kernel", COMPILED)
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_numpy_at_every_level(name: str, kernel: str) -> None:
    assert_equal_halves(random_network(name), kernel)


@pytest.mark.parametrize("kernel", COMPILED)
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_bundles_equal_numpy_on_real_images(path: Path, kernel: str) -> None:
    assert_equal_halves(shipped_network(path), kernel)


@pytest.mark.parametrize("kernel", kernels.available())
def test_batches_equal_single_images(kernel: str) -> None:
    bundle = random_bundle(NETWORKS["paper"])
    images = random_images(DIGITS, 5)
    device, cloud = DeviceHalf(bundle, kernel), CloudHalf(bundle, kernel)
    features = device.run(images, 2)
    singly = np.concatenate([device.run(images[i : i + 1], 2) for i in range(5)])
    np.testing.assert_array_equal(features, singly)
    logits = np.concatenate([cloud.run(features[i : i + 1], 2, 1) for i in range(5)])
    np.testing.assert_array_equal(cloud.run(features, 2, 1), logits)


@pytest.mark.parametrize("kernel", kernels.available())
def test_accepts_no_images_gaps_and_read_only_memory(kernel: str) -> None:
    bundle = random_bundle(NETWORKS["paper"])
    images = random_images(DIGITS, 6)
    device, cloud = DeviceHalf(bundle, kernel), CloudHalf(bundle, kernel)
    size = bundle.architecture.sent_shape(0).packed_bytes
    assert device.run(images[:0], 0).shape == (0, size)
    assert cloud.run(np.zeros((0, size), np.uint8), 0, 0).shape == (0, 10)
    np.testing.assert_array_equal(device.run(images[::2], 0), device.run(images, 0)[::2])
    mirrored = images[:, :, ::-1]
    np.testing.assert_array_equal(device.run(mirrored, 0), device.run(mirrored.copy(), 0))
    frozen = np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape)
    np.testing.assert_array_equal(device.run(frozen, 0), device.run(images, 0))


@pytest.mark.parametrize("kernel", COMPILED)
def test_many_threads_share_a_half(kernel: str) -> None:
    bundle = random_bundle(NETWORKS["compact"])
    device, cloud = DeviceHalf(bundle, kernel), CloudHalf(bundle, kernel)
    images = random_images(DIGITS, 4)
    levels = len(bundle.architecture.device_levels)
    features = [device.run(images, level) for level in range(levels)]
    logits = [cloud.run(features[level], level, level % 4) for level in range(levels)]

    def work(turn: int) -> None:
        level = turn % levels
        np.testing.assert_array_equal(device.run(images, level), features[level])
        found = cloud.run(features[level], level, level % 4)
        np.testing.assert_array_equal(found, logits[level])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(400)))


@pytest.mark.parametrize("kernel", kernels.available())
@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.zeros((1, 28, 28, 1), np.float32), r"images: float32.*must be uint8\(batch, 28, 28, 1"),
        (np.zeros((1, 28, 28, 1), np.int8), "images: int8"),
        (np.zeros((1, 28, 28), np.uint8), r"images: uint8\(1, 28, 28\)"),
        (np.zeros((1, 1, 28, 28), np.uint8), r"must be uint8\(batch, 28, 28, 1\)"),
        (np.zeros((), np.uint8), "images: "),
        ([[0]], "images: list"),
        (None, "images: NoneType"),
    ],
)
def test_images_of_the_wrong_type_or_shape_are_refused(
    kernel: str, images: Any, expected: str
) -> None:
    device = DeviceHalf(random_bundle(NETWORKS["paper"]), kernel)
    with pytest.raises(ValueError, match=expected):
        device.run(images, 0)


@pytest.mark.parametrize("kernel", kernels.available())
@pytest.mark.parametrize("level", [-1, 6, 10**30, 0.0, None, "0"])
def test_a_level_that_is_not_there_is_refused(kernel: str, level: Any) -> None:
    bundle = random_bundle(NETWORKS["compact"])
    device, cloud = DeviceHalf(bundle, kernel), CloudHalf(bundle, kernel)
    features = device.run(random_images(DIGITS, 1), 0)
    with pytest.raises(ValueError, match=r"level: .* is not allowed, must be 0 to 5"):
        device.run(random_images(DIGITS, 1), level)
    with pytest.raises(ValueError, match=r"level: .* is not allowed, must be 0 to 5"):
        device.exit_logits(features, level)
    with pytest.raises(ValueError, match=r"level: .* is not allowed, must be 0 to 5"):
        cloud.run(features, level, 0)
    with pytest.raises(ValueError, match=r"cloud_level: .* is not allowed, must be 0 to 3"):
        cloud.run(features, 0, level)


@pytest.mark.parametrize("kernel", kernels.available())
def test_features_of_the_wrong_type_or_shape_are_refused(kernel: str) -> None:
    bundle = random_bundle(NETWORKS["compact"])
    device, cloud = DeviceHalf(bundle, kernel), CloudHalf(bundle, kernel)
    features = device.run(random_images(DIGITS, 1), 5)
    wanted = rf"must be uint8\(batch, {features.shape[1]}\)"
    for wrong in (features[:, 1:], features[0], features.astype(np.uint16), features.tobytes()):
        with pytest.raises(ValueError, match=wanted):
            cloud.run(wrong, 5, 0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=wanted):
            device.exit_logits(wrong, 5)  # type: ignore[arg-type]


def test_a_network_without_exit_head_has_no_exit_logits() -> None:
    device = DeviceHalf(random_bundle(NETWORKS["paper"]))
    with pytest.raises(ValueError, match="has no exit head"):
        device.exit_logits(device.run(random_images(DIGITS, 1), 0), 0)


@pytest.mark.parametrize("kernel", kernels.available())
def test_only_the_first_stage_takes_pixels(kernel: str) -> None:
    first = Stage("a", Kind.IMAGE_CONV, 1, 8)
    last = Stage("z", Kind.BINARY_LINEAR, 8, 2)
    late = Stage("b", Kind.IMAGE_CONV, 8, 8)
    shape = Shape(4, 4, 1)
    for device, cloud in (((first, late), (last,)), ((first,), (late, last))):
        network = Architecture("odd", shape, 2, device, cloud, (1.0,), (1.0,))
        with pytest.raises(BundleError, match="must be image_conv, and only that one"):
            DeviceHalf(random_bundle(network), kernel)
        with pytest.raises(BundleError, match="must be image_conv, and only that one"):
            CloudHalf(random_bundle(network), kernel)


def test_a_kernel_can_be_forced_if_it_is_here() -> None:
    bundle = random_bundle(NETWORKS["paper"])
    try:
        kernels.force("numpy")
        assert DeviceHalf(bundle).kernel == "numpy"
    finally:
        kernels.force(None)
    with pytest.raises(UsageError, match=r"'fast' is unknown; choose one of .*numpy"):
        kernels.force("fast")
    absent = next(name for name in kernels.KNOWN if name not in kernels.available())
    with pytest.raises(UsageError, match="does not run here"):
        DeviceHalf(bundle, absent)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TAPER_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


CURRENT = "from shared.packed import kernels; print(kernels.current())"
WITHOUT = "import sys; sys.modules['shared.packed._native'] = None\n"


@pytest.mark.parametrize("kernel", kernels.available())
def test_the_environment_chooses_the_kernel(kernel: str) -> None:
    assert run_python(CURRENT, TAPER_KERNEL=kernel).stdout.strip() == kernel


def test_environment_names_what_there_is() -> None:
    done = run_python(CURRENT, TAPER_KERNEL="cuda")
    assert "TAPER_KERNEL: 'cuda' is unknown; choose one of" in done.stderr


def test_without_the_module_numpy_runs_and_says_so_once() -> None:
    done = run_python(WITHOUT + CURRENT + "; kernels.current()")
    assert done.stdout.strip() == "numpy"
    assert done.stderr.count("the compiled kernels were not built") == 1


def test_without_the_module_may_be_an_error() -> None:
    done = run_python(WITHOUT + CURRENT, TAPER_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert "TAPER_REQUIRE_NATIVE: is set, but the compiled kernels cannot be used" in done.stderr


def test_asking_for_numpy_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert DeviceHalf(random_bundle(NETWORKS["paper"]), "numpy").kernel == "numpy"
    assert caplog.text == ""


def test_info_names_the_kernel_and_the_cpu() -> None:
    command = [sys.executable, "-m", "shared.packed", "--info"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert f"runs       {kernels.current()}" in done.stdout
    for name in kernels.available():
        assert name in done.stdout
