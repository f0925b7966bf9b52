"""Law: every implementation of the packed runtime gives the bits of the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.model.architecture import Activation, Architecture, Kind, Shape, Stage, output_shape
from shared.packed import CloudHalf, DeviceHalf, kernels
from shared.profiles import PROFILES
from tests.support.networks import (
    Integers,
    extreme,
    near_typical_sums,
    random_bundle,
    random_images,
)

CHANNELS = st.one_of(
    st.integers(1, 20),
    st.sampled_from([7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 72, 96, 100, 129]),
)
STEPS = st.sampled_from([1, 1, 3, 8, 16])
LEVELS = st.sampled_from([(1.0,), (0.5, 1.0), (0.1, 0.25, 0.6, 1.0)])


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Networks of up to four stages a half, of any kind where it may stand."""
    shape = Shape(
        draw(st.integers(1, 20)), draw(st.integers(1, 34)), draw(st.sampled_from([1, 1, 2, 3, 15]))
    )
    original, sides, inputs = shape, [shape.height, shape.width], shape.channels

    def stages(
        first: Kind | None, count: int, activations: tuple[Activation, ...]
    ) -> tuple[Stage, ...]:
        nonlocal inputs, sides
        made = []
        for index in range(count):
            kinds = [Kind.BINARY_CONV] * 4 + [Kind.BINARY_LINEAR]
            kind = first if first is not None and index == 0 else draw(st.sampled_from(kinds))
            linear = kind is Kind.BINARY_LINEAR
            pools = [pool for pool in (1, 1, 2, 2, 3) if pool <= min(sides)]
            pool = 1 if linear else draw(st.sampled_from(pools))
            stage = Stage(
                f"s{index}",
                kind,
                inputs,
                draw(CHANNELS),
                pool=pool,
                stride=1 if linear or pool > 1 else draw(st.sampled_from([1, 2])),
                step=draw(STEPS),
                profile=draw(st.sampled_from(sorted(PROFILES))),
                activation=draw(st.sampled_from(activations)),
            )
            after = output_shape(stage, Shape(sides[0], sides[1], inputs))
            sides, inputs = [after.height, after.width], after.channels
            made.append(stage)
        return tuple(made)

    device = stages(Kind.IMAGE_CONV, draw(st.integers(1, 3)), (Activation.BINARY,))
    cloud = stages(None, draw(st.integers(0, 3)), tuple(Activation))
    classes = draw(st.integers(1, 12))
    profile = draw(st.sampled_from(sorted(PROFILES)))
    last = Stage("last", Kind.BINARY_LINEAR, inputs, classes, profile=profile)
    return Architecture(
        name="any",
        input_shape=original,
        classes=classes,
        device=device,
        cloud=(*cloud, last),
        device_levels=draw(LEVELS),
        cloud_levels=draw(LEVELS),
        exit_head=draw(st.booleans()),
    )


def any_profile(rng: np.random.Generator, count: int) -> Integers:
    """Non-increasing integers from 0 to 127, often with long flat parts."""
    few = rng.choice([0, 1, 2, 3, 64, 126, 127], count)
    values = few if rng.integers(2) else rng.integers(0, 128, count)
    return np.sort(values)[::-1].astype(np.int32)


WIDE = Architecture(
    name="wide",
    input_shape=Shape(8, 9, 1),
    classes=3,
    device=(
        Stage("a", Kind.IMAGE_CONV, 1, 160),
        Stage("b", Kind.BINARY_CONV, 160, 100, profile="linear"),
    ),
    cloud=(Stage("c", Kind.BINARY_CONV, 100, 70), Stage("d", Kind.BINARY_LINEAR, 70, 3)),
    device_levels=(0.3, 1.0),
    cloud_levels=(0.5, 1.0),
    exit_head=True,
)
STRIDED = replace(
    WIDE,
    device=(
        Stage("a", Kind.IMAGE_CONV, 1, 160, stride=2),
        Stage("b", Kind.BINARY_CONV, 160, 100, profile="linear", stride=2),
    ),
)
TERNARY = replace(
    WIDE,
    cloud=(
        Stage("c", Kind.BINARY_CONV, 100, 70, pool=2, step=1, activation=Activation.TERNARY),
        Stage("e", Kind.BINARY_CONV, 70, 7, profile="linear", activation=Activation.TERNARY),
        Stage("f", Kind.BINARY_CONV, 7, 8, profile="all-one", activation=Activation.TERNARY),
        Stage("d", Kind.BINARY_LINEAR, 8, 3),
    ),
)


@pytest.mark.parametrize("kernel", [name for name in kernels.available() if name != kernels.NUMPY])
@settings(max_examples=150, deadline=None)
@given(
    architecture=architectures(),
    seed=st.integers(0, 2**31),
    hard=st.booleans(),
    free_profile=st.booleans(),
    weight_bytes=st.sampled_from([(), (), (0,), (255,), (0, 255), (0x55, 0xAA)]),
    batch=st.sampled_from([1, 1, 2, 3]),
)
@example(WIDE, 0, False, False, (), 1)
@example(WIDE, 1, True, True, (255,), 2)
@example(STRIDED, 0, False, False, (), 1)
@example(TERNARY, 0, False, False, (), 1)
@example(TERNARY, 1, True, True, (0,), 2)
def test_equals_the_reference(
    kernel: str,
    architecture: Architecture,
    seed: int,
    hard: bool,
    free_profile: bool,
    weight_bytes: tuple[int, ...],
    batch: int,
) -> None:
    bundle = random_bundle(
        architecture,
        seed,
        extreme if hard else near_typical_sums,
        weight_bytes,
        any_profile if free_profile else None,
    )
    images = random_images(architecture.input_shape, batch, seed)
    device, cloud = DeviceHalf(bundle, kernel), CloudHalf(bundle, kernel)
    reference, reference_cloud = DeviceHalf(bundle, "numpy"), CloudHalf(bundle, "numpy")
    rng = np.random.default_rng(seed)
    for level in range(len(architecture.device_levels)):
        features = reference.run(images, level)
        np.testing.assert_array_equal(device.run(images, level), features)
        shape = architecture.sent_shape(level)
        noise = rng.integers(0, 256, (batch, shape.packed_bytes), dtype=np.uint8)
        for sent in (features, noise):  # noise also sets the bits after the last channel
            if architecture.exit_head:
                exits = reference.exit_logits(sent, level)
                np.testing.assert_array_equal(device.exit_logits(sent, level), exits)
            for cloud_level in range(len(architecture.cloud_levels)):
                expected = reference_cloud.run(sent, level, cloud_level)
                np.testing.assert_array_equal(cloud.run(sent, level, cloud_level), expected)
