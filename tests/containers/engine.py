"""A container engine: the one that is there, or one of our own that leaves nothing behind.

Our own runs in process and mount namespaces of its own, and all that it starts ends with it. While
images are built it shares this machine's network, since packages are fetched, and touches nothing
of it; while containers run it has a network namespace, where its bridges and rules are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

START_S = 60.0
STOP_S = 30.0
CGROUP = f"taper-containers-{os.getpid()}"
DAEMON = ("dockerd", "--cgroup-parent", CGROUP, "--log-level", "warn")
OFFLINE = ("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
PROGRAMS = ("docker", "dockerd", "docker-compose", "mmdebstrap", "unshare", "nsenter")


class EngineError(Exception):
    """The engine, or a command that it was given, failed."""


@dataclass(frozen=True)
class Engine:
    """A container engine that answers: what its commands need in their environment.

    network  words before a command that is to reach published ports on 127.0.0.1
    own      whether it is ours, with stand-ins for the images that cannot be pulled
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    network: tuple[str, ...] = ()
    own: bool = False

    def environment(self) -> dict[str, str]:
        """The environment of ``docker`` and of Compose."""
        # Debian's engine has the classic builder alone.
        classic = {"DOCKER_BUILDKIT": "0"} if self.own else {}
        return {**os.environ, **classic, **self.variables}

    def run(self, *words: str, text: str | None = None, seconds: float = 600.0) -> str:
        """The output of a command; ``EngineError`` with what it said if it fails."""
        done = subprocess.run(
            words, input=text, env=self.environment(), capture_output=True, text=True,
            timeout=seconds,
        )  # fmt: skip
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-15:]
            raise EngineError("\n".join([" ".join(words[:6]), *said]))
        return done.stdout.strip()

    def docker(self, *words: str, text: str | None = None, seconds: float = 600.0) -> str:
        """The output of ``docker`` with ``words``."""
        return self.run("docker", *words, text=text, seconds=seconds)

    def compose_words(self) -> list[str]:
        """The command of Compose 2, or of 1 where there is no other."""
        found = subprocess.run(
            ["docker", "compose", "version"], env=self.environment(), capture_output=True
        )
        return ["docker", "compose"] if found.returncode == 0 else ["docker-compose"]


def present() -> Engine | None:
    """The engine that this machine runs already, if this user may use it."""
    if shutil.which("docker") is None:
        return None
    done = subprocess.run(["docker", "info"], capture_output=True)
    return Engine() if done.returncode == 0 else None


@contextmanager
def own_engine(folder: Path, online: bool) -> Iterator[Engine]:
    """A ``dockerd`` with its images in ``folder``, ended with all that it started.

    ``online``: in this machine's network, without networks of its own.
    """
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        raise EngineError(f"needs root, and {', '.join(missing) or 'nothing else'}")
    socket = folder / "engine.sock"
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
    words += [] if online else ["--net"]
    # /etc/docker holds a key that the engine would make.
    inside = 'mkdir -p /etc/docker && mount -t tmpfs none /etc/docker && exec "$@"'
    places = ["--data-root", folder / "data", "--exec-root", folder / "run"]
    places += ["--pidfile", folder / "pid", "--host", f"unix://{socket}"]
    daemon = [*DAEMON, *(OFFLINE if online else ()), *map(str, places)]
    with (folder / "engine.log").open("ab") as log:
        process = subprocess.Popen(
            [*words, "sh", "-c", inside, "sh", *daemon],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    network = () if online else ("nsenter", f"--net=/proc/{process.pid}/ns/net")
    engine = Engine({"DOCKER_HOST": f"unix://{socket}"}, network, own=True)
    try:
        _wait_until_it_answers(engine, process, folder / "engine.log")
        if network:
            subprocess.run([*network, "ip", "link", "set", "lo", "up"], check=True)
        yield engine
    finally:
        _end(process)
        _remove_cgroups()


def _wait_until_it_answers(engine: Engine, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and process.poll() is None:
        done = subprocess.run(["docker", "version"], env=engine.environment(), capture_output=True)
        if done.returncode == 0:
            return
        time.sleep(0.2)
    raise EngineError(f"dockerd did not start\n{log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the engine to end; what is left of it and of its containers goes with the namespace."""
    try:
        children = psutil.Process(process.pid).children()
        for child in children:
            child.terminate()
        psutil.wait_procs(children, timeout=STOP_S)
    except psutil.Error:
        pass  # it has ended before
    process.kill()
    process.wait()


def _remove_cgroups() -> None:
    """Remove the control groups that the engine made; they are empty now."""
    for root in Path("/sys/fs/cgroup").glob(f"**/{CGROUP}"):
        for path in sorted((one for one in root.rglob("*") if one.is_dir()), reverse=True):
            path.rmdir()
        root.rmdir()


def lines(output: str) -> Sequence[str]:
    """The lines of a command's output that are not empty."""
    return [line for line in output.splitlines() if line.strip()]
