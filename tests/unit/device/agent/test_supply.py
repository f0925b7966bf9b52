"""Where an agent's pictures come from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from device.agent.supply import FileSupply, LiveSupply, Wanted, supply_for
from device.live.sources import LiveSettings
from shared.data.sample import sample_digits
from shared.errors import ImageError
from shared.model.architecture import Shape
from shared.model.preprocessing import DIGITS, Changes
from tests.support.cameras import MjpegCamera, jpeg, page, serve_mjpeg

IMAGES, LABELS = sample_digits()
SHAPE = Shape(28, 28, 1)
NAMES = tuple("0123456789")


def wanted(*sources: Path | str, watch: tuple[str, ...] = (), invert: bool = False) -> Wanted:
    steps = Changes(invert=invert).apply(DIGITS)
    live = LiveSettings(watch, patient=True)
    return Wanted(tuple(map(str, sources)), SHAPE, steps, NAMES, live=live)


async def test_files_come_again_and_again_with_what_has_been_added(tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray(IMAGES[index]).save(tmp_path / f"{index}.png")
    supply = FileSupply(wanted(tmp_path))
    taken = [await supply.take() for _ in range(3)]
    Image.fromarray(IMAGES[5]).save(tmp_path / "5.png")
    taken += [await supply.take() for _ in range(4)]
    expected = [IMAGES[index] for index in (0, 1, 0, 1, 0, 1, 5)]
    assert [one.image[:, :, 0].tobytes() for one in taken if one] == [
        image.tobytes() for image in expected
    ]


async def test_pictures_are_prepared_as_the_client_does(tmp_path: Path) -> None:
    """A photographed page, and a class folder that gives the label."""
    (tmp_path / "3").mkdir()
    Image.fromarray(page(0)).save(tmp_path / "3" / "page.jpg")
    sample = await FileSupply(wanted(tmp_path)).take()
    assert sample is not None
    assert sample.image.shape == (28, 28, 1)
    assert sample.label == 3
    assert np.abs(sample.image[:, :, 0].astype(int) - IMAGES[0]).mean() < 25
    (tmp_path / "3" / "page.jpg").unlink()
    Image.fromarray(255 - IMAGES[1]).save(tmp_path / "3" / "page.png")
    inverted = await FileSupply(wanted(tmp_path, invert=True)).take()
    assert inverted is not None
    assert np.array_equal(inverted.image[:, :, 0], IMAGES[1])


async def test_an_empty_folder_is_waited_for_and_named(tmp_path: Path) -> None:
    supply = FileSupply(wanted(tmp_path))
    assert await supply.take() is None
    assert "has no image files" in supply.problem
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    assert await supply.take() is not None
    assert supply.problem == ""


async def test_a_camera_that_comes_late_goes_and_comes_again() -> None:
    camera = MjpegCamera([jpeg(page(0))], breaks_after=5)
    with serve_mjpeg(camera):
        supply = supply_for(wanted(camera.address))
        assert isinstance(supply, LiveSupply)
        taken = 0
        async with asyncio.timeout(60):
            while taken < 12 or camera.connections < 2:
                taken += await supply.take() is not None
    supply.close()
    gone = supply_for(wanted(camera.address))
    assert await gone.take() is None  # an error would stop the agent
    gone.close()


async def test_a_watched_folder_that_appears_later(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    supply = supply_for(wanted(watch=(str(folder),)))
    assert await supply.take() is None
    assert "is not a folder" in supply.problem
    folder.mkdir()
    assert await supply.take() is None
    Image.fromarray(IMAGES[4]).save(folder / "a.png")
    sample = await supply.take()
    assert sample is not None
    assert np.array_equal(sample.image[:, :, 0], IMAGES[4])
    supply.close()


def test_files_and_cameras_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be mixed"):
        supply_for(wanted(tmp_path, "camera"))
