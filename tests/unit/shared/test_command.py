"""How commands end, and what they call themselves."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib import import_module

import pytest
import typer

from shared.command import Parser, needing_extra, run_command, say
from shared.errors import BundleError, LinkError, TaperError, UsageError
from shared.typer_app import run_app
from tests.support.processes import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def raising(error: BaseException) -> Callable[[Sequence[str] | None], None]:
    def command(arguments: Sequence[str] | None) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status"), [(UsageError("x"), 2), (LinkError("x"), 3), (TaperError("x"), 1)]
)
def test_a_users_mistake_is_one_line_and_its_exit_status(
    error: TaperError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run_command(raising(error), [])
    assert end.value.code == status
    assert capsys.readouterr().err == "error: x\n"


def test_a_group_of_our_errors_is_reported_as_its_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inner = ExceptionGroup("tasks", [BundleError("first"), LinkError("second")])
    with pytest.raises(SystemExit) as end:
        run_command(raising(ExceptionGroup("tasks", [inner])), [])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: first\n"


def test_a_group_with_a_fault_of_ours_in_it_keeps_its_traceback() -> None:
    with pytest.raises(ExceptionGroup):
        run_command(raising(ExceptionGroup("tasks", [UsageError("x"), KeyError("y")])), [])


def test_an_interrupt_ends_as_shells_expect() -> None:
    with pytest.raises(SystemExit) as end:
        run_command(raising(KeyboardInterrupt()), [])
    assert end.value.code == 130


def test_a_closed_pipe_ends_in_silence() -> None:
    code = (
        "import sys; from shared.command import run_command\n"
        "run_command(lambda _: [print('x' * 80, flush=True) for _ in range(9999)], None)"
    )
    reader = f'{sys.executable} -c "{code}" | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", reader], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_lines_on_standard_error_are_plain_where_no_terminal_shows_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("a note", "31")
    assert capsys.readouterr().err == "a note\n"


def test_every_typer_application_has_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer(add_completion=False)

    @app.command()
    def work(count: int = 1) -> None:
        raise AssertionError("--version must do no work")

    with pytest.raises(SystemExit) as end:
        run_app(app, ["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.endswith(f" {VERSION}\n")


def test_a_command_line_of_argparse_has_a_version_and_one_line_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = Parser(description="A command.")
    parser.add_argument("--count", type=int)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.endswith(f" {VERSION}\n")
    with pytest.raises(UsageError, match="--count: invalid int value"):
        parser.parse_args(["--count", "x"])


@pytest.mark.parametrize("module", ["device.client", "device.agent", "cloud.server"])
def test_a_module_calls_itself_as_it_was_started(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"python -m {module} {VERSION}\n"


def test_a_missing_extra_says_how_to_install_it_from_what_the_user_has() -> None:
    with pytest.raises(UsageError) as raised, needing_extra("fleet", "--output"):
        import_module("no_such_package")
    assert str(raised.value) == (
        "--output: no_such_package is not installed; install taper's extra 'fleet', "
        "from a checkout: pip install '.[fleet]', "
        "or from a wheel: pip install 'taper_split-VERSION.whl[fleet]'"
    )


def test_a_module_of_ours_that_is_missing_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError), needing_extra("fleet"):
        import_module("shared.no_such_module")
