"""Generate the files of a folder besides the engine: model, example, build file, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from device.micro.footprint import COMPILER, FLAGS, REQUEST_OVERHEAD, Code
from device.micro.plan import BoardLook, plan_constant
from shared.model.architecture import Architecture


@dataclass(frozen=True)
class Report:
    """Sizes of a model with some of its levels, in bytes."""

    name: str
    architecture: Architecture
    levels: tuple[int, ...]
    blob_bytes: int
    arena_bytes: int
    code: Code | None  # None if there was no compiler to measure it

    @property
    def ram_bytes(self) -> int:
        """Arena and stack together; only the arena if the stack was not measured."""
        return self.arena_bytes + (self.code.stack_bytes if self.code else 0)

    @property
    def fractions(self) -> str:
        """The levels as text."""
        return ", ".join(f"{self.architecture.device_levels[level]:g}" for level in self.levels)

    @property
    def raw_bytes(self) -> int:
        """Size of the largest payload."""
        return self.architecture.sent_shape(self.levels[-1]).packed_bytes


def model_header(report: Report, blob: bytes, plan: Sequence[BoardLook]) -> str:
    """Return ``model.h``: blob and plan as constants, and the sizes of the buffers they need."""
    words = [f"0x{word:08x}" for word in np.frombuffer(blob, "<u4").tolist()]
    rows = ",\n    ".join(", ".join(words[i : i + 8]) for i in range(0, len(words), 8))
    return f"""/* Model {report.name}, fractions {report.fractions}. */
#ifndef TAPER_MODEL_H
#define TAPER_MODEL_H

#include "taper.h"

#define TAPER_ARENA_BYTES {report.arena_bytes}
#define TAPER_PICTURE_BYTES {report.architecture.input_shape.size}
#define TAPER_RAW_BYTES {report.raw_bytes}

static const uint32_t taper_blob[] = {{
    {rows}}};

/* How to look at a picture: see taper_decide. */
{plan_constant(plan)}

#endif
"""


def summary(report: Report) -> str:
    """Return the memory report in one paragraph."""
    lines = [f"{report.name} at {report.fractions}"]
    if report.code is None:
        lines.append(f"flash: model {report.blob_bytes}; code unknown, {COMPILER} is not installed")
        lines.append(f"RAM: arena {report.arena_bytes}; stack unknown")
    else:
        flash = report.blob_bytes + report.code.flash_bytes
        lines.append(
            f"flash: {flash} bytes (model {report.blob_bytes}, code {report.code.flash_bytes})"
        )
        lines.append(
            f"RAM: {report.ram_bytes} bytes (arena {report.arena_bytes}, stack "
            f"{report.code.stack_bytes}), besides the picture and the request that is sent"
        )
        lines.append(f"a member of a fleet: {report.code.fleet_bytes} bytes of flash more")
    return "\n".join(lines)


def readme(report: Report) -> str:
    """Return the folder's README: how to build it, and the memory it needs."""
    network = report.architecture
    rows = "\n".join(
        f"| {network.device_levels[level]:g} | {network.device_macs(level):,} "
        f"| {network.sent_shape(level).packed_bytes} |"
        for level in report.levels
    )
    shape = network.input_shape
    measured = "" if report.code is None else f"Measured with `{COMPILER} {' '.join(FLAGS)}`.\n"
    return f"""# {report.name} for a microcontroller
The device half of a taper model in C99. `taper.h` is the whole interface; `example.c` (or the
sketch) shows one picture on its way.

```
{summary(report)}
```
{measured}A picture takes {shape.size} bytes ({shape.height} x {shape.width} x {shape.channels}),
the request that is sent at most {report.raw_bytes + REQUEST_OVERHEAD}.

| fraction | operations (MAC) | bits sent, bytes before coding |
| ---: | ---: | ---: |
{rows}

With CMake: `cmake -B build && cmake --build build && build/example < picture.raw`. For a board,
compile the `.c` files besides `example.c` with its compiler; nothing else is needed.
"""


CMAKE = """cmake_minimum_required(VERSION 3.16)
project(taper_example C)

add_library(taper STATIC
  taper_model.c taper_pixels.c taper_run.c taper_coder.c taper_request.c
  taper_response.c taper_fleet.c taper_desired.c)
target_include_directories(taper PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
set_target_properties(taper PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)

add_executable(example example.c)
target_link_libraries(example PRIVATE taper)
"""

_CLASSIFY = """static uint32_t arena[TAPER_ARENA_BYTES / 4];
static uint8_t picture[TAPER_PICTURE_BYTES];
static uint8_t request[TAPER_RAW_BYTES + TAPER_REQUEST_OVERHEAD];
"""

EXAMPLE = (
    """/* Classifies one picture from standard input: raw bytes, row by row. */
#include <stdio.h>

#include "model.h"
#include "taper.h"

"""
    + _CLASSIFY
    + """
int main(void) {
  taper_model model;
  taper_sample sample;
  taper_exit answer;
  taper_step step;
  size_t size;
  uint32_t look = 0;
  if (taper_open(&model, taper_blob, sizeof taper_blob) != TAPER_OK) return 1;
  if (fread(picture, 1, sizeof picture, stdin) != sizeof picture) return 2;
  do {
    const uint32_t level = taper_looks.looks[look].level;
    if (taper_run(&model, level, picture, arena, sizeof arena, &sample) != TAPER_OK) return 3;
    const int asked = taper_ask_exit(&model, &sample, &answer) == TAPER_OK;
    if (asked) printf("exit head: %lu\\n", (unsigned long)answer.label);
    step = taper_decide(&taper_looks, look++, asked ? &answer : 0);
  } while (step == TAPER_LOOK_AGAIN);
  if (step == TAPER_STAY) return 0;
  if (taper_request_look(&model, &taper_looks, 0, &sample, 1, request, sizeof request, &size) !=
      TAPER_OK)
    return 4;
  printf("request: %lu bytes\\n", (unsigned long)size);
  /* Send it, then read the server's answer with taper_read_response. If that says `again`, run
   * level taper_looks.looks[1].level and send it with 1 for `earlier` under the same id. */
  return 0;
}
"""
)

SKETCH = (
    """// Classifies the picture in `picture`; fill it from your camera. See README.md.
#include "src/model.h"
#include "src/taper.h"

"""
    + _CLASSIFY
    + """static taper_model model;

void setup() {
  Serial.begin(115200);
  if (taper_open(&model, taper_blob, sizeof taper_blob) != TAPER_OK) Serial.println("no model");
}

void loop() {
  taper_sample sample;
  taper_exit answer;
  taper_step step;
  size_t size = 0;
  uint32_t look = 0;
  do {
    const uint32_t level = taper_looks.looks[look].level;
    if (taper_run(&model, level, picture, arena, sizeof arena, &sample) != TAPER_OK) return;
    const bool asked = taper_ask_exit(&model, &sample, &answer) == TAPER_OK;
    step = taper_decide(&taper_looks, look++, asked ? &answer : 0);
  } while (step == TAPER_LOOK_AGAIN);
  if (step == TAPER_STAY) {
    Serial.println(answer.label);
  } else if (taper_request_look(&model, &taper_looks, 0, &sample, 1, request, sizeof request,
                                &size) == TAPER_OK) {
    Serial.println(size);  // send `request` over MQTT; see taper_read_response for the answer
  }
  delay(1000);
}
"""
)
