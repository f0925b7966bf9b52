"""What the C engine repeats of the Python side is the same."""

from __future__ import annotations

import re

from device.micro.footprint import ENGINE, deepest
from shared.protocol.context_model import PROBABILITIES


def test_the_probabilities_are_the_upper_half_of_the_context_models() -> None:
    text = (ENGINE / "taper_probabilities.h").read_text()
    body = text[text.index("= {") :]
    numbers = [int(word) for word in re.findall(r"\d+", body)]
    assert numbers == PROBABILITIES[len(PROBABILITIES) // 2 :].tolist()
    assert (PROBABILITIES.astype(int) + PROBABILITIES[::-1] == 65536).all()


def test_the_deepest_stack_is_the_longest_way_through_the_calls() -> None:
    def node(name: str, size: int) -> str:
        return f'node: {{ title: "{name}" label: "{name}\\nfile.c:1:1\\n{size} bytes (static)" }}\n'

    def edge(caller: str, callee: str) -> str:
        return f'edge: {{ sourcename: "{caller}" targetname: "{callee}" label: "" }}\n'

    graph = node("taper_run", 100) + node("file.c:stage", 40) + node("file.c:dot", 30)
    graph += edge("taper_run", "file.c:stage") + edge("file.c:stage", "file.c:dot")
    assert deepest(graph + node("taper_open", 120)) == 170
