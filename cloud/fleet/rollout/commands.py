"""The commands ``rollout start``, ``status``, ``pause``, ``resume`` and ``abort``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from cloud.fleet.flags import STORE, Fleet, Site, StoreUrl, Who, of_a_fleet, parse_fleet, parse_who
from cloud.fleet.running import run_client, say
from shared.command import needing_extra
from shared.errors import UsageError
from shared.fleet.scenario import Rollout

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloud.fleet.client import FleetClient
    from cloud.fleet.rollout.ledger import RolloutLedger
    from cloud.fleet.rollout.record import RolloutRecord

    Begin = Callable[[RolloutLedger, FleetClient], RolloutRecord]
    Granted = Callable[[RolloutRecord], bool]

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", no_args_is_help=True)
WISH_WITHIN_S = 60.0
LISTED = 10
Target = Annotated[
    str, typer.Option("--target", metavar="DEVICE|GROUP|all", help="Devices that get the model.")
]


@app.callback()
def rollout() -> None:
    """Give a model to more and more devices, as long as it performs as well as the old one."""


@app.command()
@of_a_fleet("operator")
def start(
    model: Annotated[str, typer.Argument(help="Name of a model that the server has.")],
    target: Target = "all",
    version: Annotated[
        str, typer.Option(help="First digits of the version that devices must report.")
    ] = "",
    control: Annotated[
        float, typer.Option(help="Share of the devices that keep the old model to the end.")
    ] = 0.1,
    waves: Annotated[
        str, typer.Option(help="Shares of the other devices that have the model after each wave.")
    ] = ("0.05,0.25,1"),
    watch: Annotated[str, typer.Option(help="Least time for which a wave is watched.")] = "10m",
    samples: Annotated[int, typer.Option(min=1, help="Least number of samples in a wave.")] = 100,
    lose_at_most: Annotated[
        float, typer.Option(help="Accuracy that the new model may lose.")
    ] = 0.01,
    store: StoreUrl = STORE,
    who: Who = None,
    *,
    site: Site,
) -> None:
    """Begin a roll-out and carry it out until it is done, or stopped and all devices are back.

    Exit status 1 if it was stopped. If this process ends early, **resume** continues.
    """
    values = {
        "model": model, "version": version, "control": control, "waves": waves.split(","),
        "watch": watch, "samples": samples, "lose_at_most": lose_at_most,
    }  # fmt: skip
    try:
        rules = Rollout.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        flag = str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"--{flag}: {first['msg']}") from None
    name = parse_who(who)

    def begin(ledger: RolloutLedger, client: FleetClient) -> RolloutRecord:
        return ledger.start(rules, client.state.select(target, "--target"), name)

    with _ledger(store, site.fleet) as ledger:
        _drive(ledger, site, begin)


@app.command()
@of_a_fleet("operator")
def resume(
    store: StoreUrl = STORE,
    *,
    site: Site,
) -> None:
    """Continue a roll-out that was paused, or whose process has died."""
    from cloud.fleet.rollout.core import resumed
    from cloud.fleet.rollout.record import Phase

    def begin(ledger: RolloutLedger, client: FleetClient) -> RolloutRecord:  # noqa: ARG001 - as start
        record = ledger.take()
        if record.progress.phase is Phase.DONE:
            raise UsageError(f"rollout: roll-out {record.number} is done")
        ledger.set_wish("")
        return resumed(record, time.time())

    with _ledger(store, site.fleet) as ledger:
        _drive(ledger, site, begin)


@app.command()
def pause(store: StoreUrl = STORE, fleet: Fleet = "default") -> None:
    """Leave all devices as they are, until **resume** or **abort**."""
    from cloud.fleet.rollout.record import Phase

    with _ledger(store, fleet) as ledger:
        record = _unfinished(ledger)
        if record.progress.phase is not Phase.RUNNING:
            phase = record.progress.phase.value
            raise UsageError(f"rollout: roll-out {record.number} is {phase}, and cannot be paused")
        try:
            ledger.save(ledger.take().moved(phase=Phase.PAUSED, reason="paused"))
            ledger.release()
        except UsageError:  # another process carries it out
            _wish(ledger, "pause", lambda one: one.progress.phase is not Phase.RUNNING)
        _show(ledger)


@app.command()
@of_a_fleet("operator")
def abort(
    store: StoreUrl = STORE,
    *,
    site: Site,
) -> None:
    """Restore the model that every device had before the roll-out."""
    from cloud.fleet.rollout.core import resumed, stop

    with _ledger(store, site.fleet) as ledger:
        _unfinished(ledger)
        try:
            ledger.take()
        except UsageError:  # another process carries it out
            _wish(ledger, "abort", lambda one: one.progress.phase.over)
            _show(ledger)
            return

        def begin(ledger: RolloutLedger, client: FleetClient) -> RolloutRecord:  # noqa: ARG001 - as start
            return stop(resumed(ledger.take(), time.time()), "aborted")

        with suppress(typer.Exit):  # "stopped" is an error of start, but success of abort
            _drive(ledger, site, begin)


@app.command()
def status(store: StoreUrl = STORE, fleet: Fleet = "default") -> None:
    """Print the progress of the latest roll-out."""
    with _ledger(store, fleet) as ledger:
        _show(ledger)


@contextmanager
def _ledger(store: str, fleet: str) -> Iterator[RolloutLedger]:
    with needing_extra("fleet"):
        from cloud.fleet.rollout.ledger import RolloutLedger
    ledger = RolloutLedger(store, parse_fleet(fleet))
    try:
        yield ledger
    finally:
        ledger.close()


def _drive(ledger: RolloutLedger, site: Site, begin: Begin) -> None:
    """Carry out the roll-out that ``begin`` returns; exit status 1 if it was stopped."""
    from cloud.fleet.rollout.driver import RolloutDriver, outcome
    from cloud.fleet.rollout.record import Phase

    async def work(client: FleetClient) -> None:
        ledger.remember(client.state)
        record = begin(ledger, client)
        say(f"roll-out {record.number} of {record.rules.model}: {len(record.members)} devices")
        record = await RolloutDriver(client, ledger, record, say).run()
        say(outcome(record))
        if record.progress.phase is Phase.STOPPED:
            raise typer.Exit(1)

    run_client(site, work)


def _unfinished(ledger: RolloutLedger) -> RolloutRecord:
    found = ledger.last()
    if found is None:
        raise UsageError(f"rollout: fleet {ledger.fleet} has none")
    if found[0].progress.phase.over:
        raise UsageError(f"rollout: roll-out {found[0].number} is {found[0].progress.phase.value}")
    return found[0]


def _wish(ledger: RolloutLedger, text: str, granted: Granted) -> None:
    """Ask the process that carries out the roll-out to ``text``, and wait until it has done so."""
    ledger.set_wish(text)
    end_s = time.monotonic() + WISH_WITHIN_S
    while time.monotonic() < end_s:
        found = ledger.last()
        if found is not None and granted(found[0]):
            return
        time.sleep(0.5)
    say(f"asked to {text}; the process that carries it out has not done so yet")


def _show(ledger: RolloutLedger) -> None:
    found = ledger.last()
    if found is None:
        say(f"fleet {ledger.fleet}: no roll-out")
        return
    record, row = found
    progress = record.progress
    began = time.strftime("%Y-%m-%d %H:%M", time.gmtime(row.started_s))
    say(f"roll-out {record.number} of {record.rules.model} {progress.version[:16]}".rstrip())
    say(f"begun {began} UTC by {row.who}: {progress.phase.value}")
    if progress.reason:
        say(progress.reason)
    for wave in (*range(record.waves), -1):
        counts = record.counts(wave)
        name = "control group" if wave < 0 else f"wave {wave + 1}"
        mark = " (now)" if wave == progress.wave and not progress.phase.over else ""
        states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        say(f"  {name}{mark}: {states or 'no devices'}")
    returning = sorted(n for n, one in record.members.items() if one.state.value == "returning")
    if returning:
        more = " ..." * (len(returning) > LISTED)
        say(f"  not confirmed yet: {', '.join(returning[:LISTED])}{more}")
