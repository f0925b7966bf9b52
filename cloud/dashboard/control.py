"""The card with which operators change a setting of a device, a group or the whole fleet."""

from __future__ import annotations

from nicegui import ui

from cloud.dashboard.frame import EVERY_S, card
from cloud.dashboard.live import LiveFleet
from cloud.dashboard.people import Person
from cloud.fleet.operate import parse_changes
from shared.errors import TaperError
from shared.fleet.payloads import SETTING_RULES

FRACTIONS = ["0.125", "0.25", "0.3", "0.5", "0.75", "1", "auto", "linear", "step"]
FRACTION = "fraction"
ALL = "all"


class Control:
    """Shows the card. ``target`` fixes the device; by default the user chooses the target."""

    def __init__(self, live: LiveFleet, person: Person, target: str | None = None) -> None:
        self._live = live
        self._person = person
        self._target = target
        self._asked = 0
        self._targets = live.targets
        with card("Settings"):
            if not person.may_set:
                ui.label("You may look; an operator changes settings.").classes("text-sm")
                return
            with ui.row().classes("items-center gap-3 w-full"):
                self._chooser = None
                if target is None:
                    self._chooser = ui.select(
                        list(live.targets), value=ALL, label="device or group", with_input=True
                    )
                    self._chooser.props("dense outlined data-testid=target").classes("w-44")
                self._setting = ui.select(list(SETTING_RULES), value=FRACTION, label="setting")
                self._setting.props("dense outlined data-testid=setting").classes("w-40")
                self._fraction = ui.select(FRACTIONS, value="0.5", label="value")
                self._fraction.props("dense outlined data-testid=fraction").classes("w-32")
                self._value = ui.input("value").props("dense outlined data-testid=value")
                self._value.classes("w-40")
                ui.button("Set", on_click=self._ask).props("unelevated data-testid=set")
                unset = ui.button("Unset", on_click=self._ask_unset).props("flat data-testid=unset")
                unset.tooltip("leaves the choice to the device again")
                self._said = ui.label("").classes("text-sm text-gray-500")
                self._said.props("data-testid=pending")
            self._hint = ui.label("").classes("text-xs text-gray-500")
        self._setting.on_value_change(self._show_value)
        self._show_value()
        ui.timer(EVERY_S / 2, self._refresh)

    def _show_value(self) -> None:
        """Show the input field that fits the chosen setting, and the allowed values."""
        name = str(self._setting.value)
        self._fraction.set_visibility(name == FRACTION)
        self._value.set_visibility(name != FRACTION)
        self._hint.set_text(f"{name}: {SETTING_RULES[name]}")

    async def _ask(self) -> None:
        name = str(self._setting.value)
        value = self._fraction.value if name == FRACTION else self._value.value
        if not str(value or "").strip():
            ui.notify(f"{name}: give {SETTING_RULES[name]}", type="negative")
            return
        await self._change(f"{name}={str(value).strip()}")

    async def _ask_unset(self) -> None:
        await self._change(f"{self._setting.value}=")

    async def _change(self, word: str) -> None:
        """Make the change ``word`` (KEY=VALUE); asks for confirmation if it affects several
        devices.
        """
        target = self._target or str(self._chooser.value if self._chooser else "")
        try:
            values = parse_changes([word])
            count = self._live.count(target)
            if count > 1 and not await confirmed(f"{word} for {count} devices ({target})?"):
                return
            self._asked = await self._live.set(self._person, target, values)
        except TaperError as error:
            ui.notify(str(error), type="negative", multi_line=True)
        self._refresh()

    def _refresh(self) -> None:
        live, chooser = self._live, self._chooser
        if chooser is not None and self._targets is not live.targets:
            self._targets = live.targets
            chooser.set_options(list(live.targets), value=chooser.value)
        if not self._asked:
            return
        waiting = live.waiting if self._target is None else int(live.pending(self._target))
        self._said.set_text(f"{max(self._asked - waiting, 0)} of {self._asked} reported")


async def confirmed(question: str) -> bool:
    """Show ``question`` in a dialog; return whether the user confirms."""
    with ui.dialog() as dialog, ui.card():
        ui.label(question)
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat")
            yes = ui.button("Set", on_click=lambda: dialog.submit(True))
            yes.props("unelevated data-testid=confirm")
    answer = await dialog
    dialog.delete()
    return answer is True
