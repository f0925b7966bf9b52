"""``python -m tests.containers [OPTION] [COMMAND ...]``: builds images, runs the tests.

COMMAND is run in place of the tests. ``--ray`` builds the image for Ray as well, which takes some
minutes more, ``--chaos`` one with the tools that make networks bad, ``--upgrade`` those of the last
release.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from tests.containers.engine import Engine, EngineError, own_engine, present
from tests.containers.images import TAG, build, build_tools, rename
from tests.containers.progress import say
from tests.containers.release import RELEASED, released
from tests.containers.stand_ins import make_base, make_programs
from tests.support.processes import ROOT

VARIABLE = "TAPER_CONTAINERS"  # says that images are built: "own" for an engine of ours
CLEAN_UP_S = 120
APART = ("test_ray_cluster.py", "test_upgrade.py")  # have targets of their own
TESTS = [sys.executable, "-m", "pytest", "-q", "--durations", "5", "tests/containers"]
TESTS += [f"--ignore=tests/containers/{name}" for name in APART]


def inside(engine: Engine, words: list[str]) -> int:
    """Run ``words`` where published ports are, with the engine in the environment."""
    kind = "own" if engine.own else "present"
    child = subprocess.Popen(
        [*engine.network, *words],
        cwd=ROOT,
        env={**engine.environment(), VARIABLE: kind},
        # a shell starts what runs in the background deaf to Ctrl-C, which is how we end it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        return child.wait()
    except SystemExit:
        child.send_signal(signal.SIGINT)  # as Ctrl-C has told it: it removes what it started
        raise
    finally:
        try:
            child.wait(CLEAN_UP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def make_images(engine: Engine, more: set[str], pool: Executor) -> None:
    """Build our images, and what ``more`` asks for; those of others where they are not pulled."""
    programs = None
    if engine.own:
        say("making images of Debian's packages")
        make_base(engine)
        programs = pool.submit(make_programs, engine)  # are fetched while ours are compiled
    say("building images")
    if "--upgrade" in more:
        with released() as root:
            build(engine, pool, root=root)
        rename(engine, TAG, RELEASED)
    build(engine, pool, "--ray" in more)
    if programs:
        programs.result()
    if "--chaos" in more:
        build_tools(engine)


def main(words: list[str]) -> int:
    """The status of the tests or the command."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    more = {"--ray", "--chaos", "--upgrade"} & set(words[:1])
    command = words[len(more) :] or TESTS
    engine = present()
    # The pool is left last: when an engine of ours has ended, so have the builds in it.
    with ThreadPoolExecutor() as pool:
        if engine is not None:
            make_images(engine, more, pool)
            return inside(engine, command)
        with tempfile.TemporaryDirectory(prefix="taper-containers-") as name:
            folder = Path(name)
            with own_engine(folder, online=True) as builder:
                make_images(builder, more, pool)
            with own_engine(folder, online=False) as engine:
                say("running " + " ".join(command))
                return inside(engine, command)


if __name__ == "__main__":
    os.umask(0o022)
    try:
        sys.exit(main(sys.argv[1:]))
    except EngineError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
