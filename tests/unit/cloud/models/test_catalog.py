"""Which model a request gets."""

from __future__ import annotations

import pytest

from cloud.models.catalog import Catalog
from cloud.models.served import ServedModel
from shared.errors import InvalidRequestError, UnknownModelError, VersionMismatchError
from tests.support.clouds import tiny_architecture, tiny_bundle
from tests.support.networks import random_bundle


@pytest.fixture(scope="module")
def models() -> tuple[ServedModel, ServedModel, ServedModel]:
    """Two versions of one model, and another model."""
    other = random_bundle(tiny_architecture(name="other"), 0)
    return ServedModel(tiny_bundle(0)), ServedModel(tiny_bundle(1)), ServedModel(other)


Models = tuple[ServedModel, ServedModel, ServedModel]


def test_the_first_name_and_the_first_version_are_the_defaults(models: Models) -> None:
    first, second, other = models
    catalog = Catalog.of([first, second, other])
    assert catalog.names == ("tiny", "other")
    assert catalog.models == (first, second, other)
    assert catalog.find("") is catalog.find("tiny") is first
    assert catalog.find("other") is other
    assert Catalog.of([second, first]).find("tiny") is second


def test_a_version_is_found_by_its_beginning_in_any_case(models: Models) -> None:
    first, second, _ = models
    catalog = Catalog.of([first, second])
    for model in (first, second):
        for version in (model.version, model.version[:12], model.version[:12].upper()):
            assert catalog.find("tiny", version) is model
            assert catalog.find("", version) is model


def test_the_same_version_twice_is_one(models: Models) -> None:
    again = ServedModel(tiny_bundle(0))
    assert Catalog.of([models[0], again]).models == (models[0],)


def test_what_is_not_there_is_said_with_what_is(models: Models) -> None:
    catalog = Catalog.of(models)
    with pytest.raises(UnknownModelError, match=r"'nothing'.*tiny, other"):
        catalog.find("nothing")
    with pytest.raises(VersionMismatchError) as raised:
        catalog.find("tiny", "z" * 8)
    for model in models[:2]:
        assert model.version in str(raised.value)
    assert models[2].version not in str(raised.value)
    with pytest.raises(UnknownModelError) as unknown:
        catalog.find("n" * 10_000)
    assert len(str(unknown.value)) < 300


@pytest.mark.parametrize("digits", [1, 7])
def test_a_version_of_few_digits_is_refused(models: Models, digits: int) -> None:
    catalog = Catalog.of(models)
    with pytest.raises(InvalidRequestError, match="8 or more digits"):
        catalog.find("tiny", models[0].version[:digits])


def test_an_empty_catalog_has_no_default() -> None:
    with pytest.raises(UnknownModelError, match="no model yet"):
        Catalog.of([]).find("")
