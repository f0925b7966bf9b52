"""Networks as files: written and read back, mistakes named; suggestions keep their budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud.training.split import architectures
from cloud.training.split.architecture_command import app, show, write
from cloud.training.split.architecture_file import read_architecture, to_toml
from cloud.training.split.architectures import ARCHITECTURES, architecture, register
from cloud.training.split.suggest import suggest
from shared.errors import UsageError
from shared.model.architecture import Architecture, Shape
from tests.support.trainings import tiny

COLOUR = Shape(32, 32, 3)
LEAST = """
[[device]]
channels = 8
[[cloud]]
channels = 16
"""


def own(shape: Shape, classes: int) -> Architecture:
    """A network of one's own, found by its import path."""
    return replace(ARCHITECTURES["colour"](shape, classes), name="own")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_file_and_back(name: str, tmp_path: Path) -> None:
    made = ARCHITECTURES[name](COLOUR, 10)
    path = tmp_path / "net.toml"
    path.write_text(to_toml(made))
    assert read_architecture(path, COLOUR, 10) == made


def test_a_stage_may_have_a_stride_in_place_of_a_pool(tmp_path: Path) -> None:
    path = tmp_path / "strided.toml"
    path.write_text(LEAST.replace("channels = 8", "channels = 8\nstride = 2"))
    made = read_architecture(path, Shape(33, 32, 3), 4)
    plain = read_architecture(write_text(tmp_path / "plain.toml", LEAST), Shape(33, 32, 3), 4)
    assert made.sent_shape(0) == Shape(17, 16, 8)
    assert made.device_macs(0) * 33 * 32 == plain.device_macs(0) * 17 * 16
    path.write_text(to_toml(made))
    assert read_architecture(path, Shape(33, 32, 3), 4) == made
    assert Architecture.from_json(made.to_json()) == made
    assert "stride" not in str(plain.to_json())


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_least_file_is_one_stage_a_half(tmp_path: Path) -> None:
    path = tmp_path / "least.toml"
    path.write_text(LEAST)
    made = read_architecture(path, COLOUR, 4)
    assert made.name == "least"
    assert [stage.step for stage in made.device] == [1]
    assert made.cloud[0].profile == "linear"
    assert made.classes == 4
    assert made.exit_head


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[device", "is no TOML"),
        (LEAST.replace("[[cloud]]", "[[clod]]"), "clod is unknown"),
        ("[[device]]\nchannels = 8", r"has no \[\[cloud\]\]"),
        (LEAST.replace("= 16", "= 0"), r"\[\[cloud\]\] number 1: channels is 0"),
        (LEAST.replace("= 16", '= "16"'), "channels is '16'"),
        (LEAST.replace("channels = 16", "pool = 2"), "has no channels"),
        (f"{LEAST}wide = 3", "wide is unknown"),
        (f'{LEAST}profile = "steep"', "profile 'steep' is unknown"),
        (f'{LEAST}activation = "relu"', "activation 'relu' is not allowed"),
        (f"{LEAST}stride = 3", "stage conv2: stride 3 is not allowed; give 1 or 2"),
        (f"{LEAST}pool = 2\nstride = 2", "stage conv2: a stride is of a convolution without a p"),
        (f"{LEAST}pool = 64", "pool 64 is larger than the map"),
        (f"device_levels = [0.5]\n{LEAST}", "device_levels"),
        (f'device_levels = ["all"]\n{LEAST}', "give fractions"),
        (f"exit_head = 1\n{LEAST}", "exit_head is 1"),
        (f'name = "a b"\n{LEAST}', "name 'a b' is not allowed"),
    ],
)
def test_mistakes_name_the_file_and_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "net.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_architecture(path, COLOUR, 4)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_architecture(tmp_path / "none.toml", COLOUR, 4)


@pytest.mark.parametrize("side", [28, 32, 64, 96, 128, 224])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("budget", [5e6, 20e6, 100e6])
def test_a_suggestion_keeps_its_budget_and_uses_it(side: int, colours: int, budget: float) -> None:
    shape = Shape(side, side, colours)
    try:
        made = suggest(shape, 4, budget, 300, "own")
    except UsageError as error:
        assert (budget, side) in {(5e6, 128), (5e6, 224), (20e6, 224)}
        assert "the smallest network takes" in str(error)  # noqa: PT017
        return
    top = len(made.device_levels) - 1
    assert 0.3 * budget < made.device_macs(top) <= budget
    assert 100 < made.sent_shape(top).packed_bytes <= 300


@pytest.mark.parametrize(
    ("shape", "mmac", "payload", "message"),
    [
        (Shape(96, 96, 3), 0.1, 300, "--device-mmac: 0.1 is too little for 96x96"),
        (Shape(96, 96, 3), 20, 10, "--payload: 10 bytes are too few for a map of 6x6"),
        (Shape(6, 6, 3), 20, 300, "--size: 6x6 is too small"),
    ],
)
def test_what_cannot_be_is_refused(shape: Shape, mmac: float, payload: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        suggest(shape, 4, mmac * 1e6, payload, "own")


def test_the_command_writes_a_file_and_says_what_it_costs(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    words = ["suggest", "--size", "16x16", "--grey", "--classes", "3", "--device-mmac", "0.2"]
    words += ["--payload", "80", "--output", str(path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for said in ("device MMAC", "bytes sent", "RAM", "flash", "bundle: about", "mcu-ble"):
        assert said in result.output
    made = read_architecture(path, Shape(16, 16, 1), 3)
    assert made.device_macs(len(made.device_levels) - 1) <= 0.2e6
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, UsageError)
    assert "is there; remove it" in str(again.exception)


def test_a_bundle_shows_its_network_and_gives_it_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "shipped.toml"
    words = ["show", "mnist-binary-paper", "--output", str(path)]
    assert CliRunner().invoke(app, words).exit_code == 0
    made = read_architecture(path, Shape(28, 28, 1), 10)
    assert made == ARCHITECTURES["paper"](Shape(28, 28, 1), 10)


def test_a_network_with_strides_says_that_boards_are_not_for_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, *more = tiny().device
    show(replace(tiny(), device=(replace(first, pool=1, stride=2), *more)))
    said = capsys.readouterr().out
    assert "boards run no strides" in said
    assert "RAM" not in said


def test_own_networks_by_name_and_by_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "ARCHITECTURES", dict(ARCHITECTURES))
    register("tiny", lambda shape, classes: tiny())
    assert architecture("tiny", COLOUR, 3).name == "tiny"
    with pytest.raises(UsageError, match="'tiny': is taken"):
        register("tiny", lambda shape, classes: tiny())
    assert architecture(f"{__name__}:own", COLOUR, 3).name == "own"
    for name, message in (
        ("nothing:own", "cannot be imported"),
        (f"{__name__}:COLOUR", "is no function"),
        (f"{__name__}:str", "cannot be imported"),
        ("huge", "known networks: "),
    ):
        with pytest.raises(UsageError, match=message):
            architecture(name, COLOUR, 3)


def test_a_network_that_does_not_fit_says_so() -> None:
    with pytest.raises(UsageError, match="colour does not fit images of 3x3x1"):
        architecture("colour", Shape(3, 3, 1), 3)


def test_what_a_file_cannot_say_is_not_written(tmp_path: Path) -> None:
    made = tiny()
    renamed = replace(made, device=(replace(made.device[0], name="stem"), *made.device[1:]))
    with pytest.raises(UsageError, match="a file cannot describe tiny"):
        write(tmp_path / "net.toml", renamed)
    assert not list(tmp_path.iterdir())
    write(tmp_path / "net.toml", made)
