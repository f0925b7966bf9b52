"""Bundle files that come, change and break while they are served."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.models.repository import Repository, load
from cloud.observability.metrics import Metrics
from cloud.scheduling.compute import ComputeThread
from cloud.scheduling.scheduler import Scheduler
from cloud.scheduling.settings import SchedulerSettings
from shared.errors import BundleError
from shared.model.architecture import Architecture, Kind, Shape, Stage
from shared.model.bundle import Bundle, Metadata, make_bundle, write_bundle
from tests.support.clouds import tiny_bundle
from tests.support.networks import random_bundle


def huge(side: int, context: bool) -> Bundle:
    """A small file whose maps, or whose context model, take gigabytes."""
    architecture = Architecture(
        "huge",
        Shape(side, side, 1),
        10,
        (Stage("c1", Kind.IMAGE_CONV, 1, 1, 1, 1),),
        (Stage("c2", Kind.BINARY_CONV, 1, 1, side, 1), Stage("fc", Kind.BINARY_LINEAR, 1, 10)),
        (1.0,),
        (1.0,),
    )
    made = random_bundle(architecture)
    tensors = dict(made.tensors)
    if context:
        tensors["codec.context.weight"] = np.zeros((6 + 2 * side + 1, 64), np.int8)
        tensors["codec.context.bias"] = np.zeros((1, 1), np.int16)
    names = made.metadata.class_names
    return make_bundle(Metadata("huge", architecture, names, (), {}), tensors)


@pytest.mark.parametrize(("side", "context"), [(16384, True), (16384, False), (1024, True)])
def test_a_small_file_with_a_huge_map_is_refused_before_it_is_allocated(
    side: int, context: bool, tmp_path: Path
) -> None:
    path = tmp_path / "huge.safetensors"
    write_bundle(huge(side, context), path)
    with pytest.raises(BundleError, match="are allowed"):
        load(path)


def test_any_failure_to_load_is_counted_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tiny_bundle(0), tmp_path / "a.safetensors")
    counts = Metrics()
    repository = Repository((), tmp_path, counts.models_loaded)
    before = repository.scan()

    def fail(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr("cloud.models.repository.load", fail)
    write_bundle(tiny_bundle(1), tmp_path / "b.safetensors")
    assert repository.scan() == before
    assert counts.counters["model_load_failures"] == 1


def test_garbage_over_an_older_file_leaves_the_default_version(tmp_path: Path) -> None:
    older, newer = tiny_bundle(0), tiny_bundle(1)
    write_bundle(older, tmp_path / "older.safetensors")
    write_bundle(newer, tmp_path / "newer.safetensors")
    repository = Repository((), tmp_path, Metrics().models_loaded)
    assert repository.scan().find("").version == newer.metadata.version
    (tmp_path / "older.safetensors").write_bytes(b"garbage" * 100)
    catalog = repository.scan()
    assert catalog.find("").version == newer.metadata.version
    assert len(catalog.models) == 2  # the older one goes on serving too


def test_a_version_that_is_replaced_leaves_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    bundle = tiny_bundle(0)
    write_bundle(bundle, path)
    metrics = Metrics()
    repository = Repository((), tmp_path, metrics.models_loaded)
    scheduler = Scheduler(SchedulerSettings(), ComputeThread())
    seen = []
    for number in range(5):
        names = tuple(f"{name}-{number}" for name in bundle.metadata.class_names)
        write_bundle(make_bundle(replace(bundle.metadata, class_names=names), bundle.tensors), path)
        catalog = repository.scan()
        scheduler.serve(catalog)
        scheduler.tick(0.0, 0.0)
        model = catalog.find("")
        scheduler.dispatcher.ran_at_once(0.0, model.native, 0, None, 1, 0, 0.0, 1e-3)
        seen.append(weakref.ref(model))
        del model, catalog
    gc.collect()
    assert [one() is None for one in seen] == [True] * 4 + [False]
