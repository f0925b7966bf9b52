"""The settings of a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from device.policy.simple import AUTO
from device.transport.channel import Security
from device.transport.link import LinkSettings
from shared.bundles import DEFAULT_MODEL
from shared.errors import UsageError
from shared.model.exits import check_threshold


@dataclass(frozen=True)
class SpoolSettings:
    """The file in which unconfirmed samples are kept, and how many at most."""

    path: Path
    limit: int = 10_000


@dataclass(frozen=True)
class ModelSettings:
    """The source of the model.

    name         name of a shipped bundle, or a file; with ``from_server`` a name on the server
    from_server  fetch the device's part from the server, and follow its updates
    folder       folder in which fetched models are kept
    poll_s       seconds between questions for another version
    """

    name: str = DEFAULT_MODEL
    from_server: bool = False
    folder: Path = field(default_factory=lambda: Path.home() / ".cache" / "taper" / "models")
    poll_s: float = 60.0


@dataclass(frozen=True)
class ClientSettings:
    """Settings of ``SplitClient``.

    servers         HOST:PORT, tried in this order
    fraction        a number above 0 up to 1, ``auto``, ``linear`` or ``step``
    battery_percent charge to assume; None: read it from the system or one of the next three
    battery_command, battery_file, battery_plugin   other sources of the charge
    lifetime_s, min_accuracy, max_bytes   goals of ``auto``; without any it follows the charge
    hardware        kind of hardware whose energy constants ``auto`` uses
    capacity_j      energy of the full battery; None: a usual one for the hardware
    exit_threshold  confidence from which a sample stays here; None: the bundle's, or auto's choice
    use_exit        False: every sample goes to the cloud while it can be reached
    top_k           number of labels with probabilities to request
    wait_s          time limit for the first connection
    timeout_s       time limit for one answer
    max_wait_s      how long a sample may wait to be sent together with others
    deadline_s      latency that ``auto`` plans for
    start_offline   start even if no server can be reached
    """

    servers: tuple[str, ...] = ("localhost:50051",)
    model: ModelSettings = field(default_factory=ModelSettings)
    fraction: str = AUTO
    battery_percent: float | None = None
    battery_command: str | None = None
    battery_file: Path | None = None
    battery_plugin: str | None = None
    lifetime_s: float | None = None
    min_accuracy: float | None = None
    max_bytes: float | None = None
    hardware: str = "pi-wifi"
    capacity_j: float | None = None
    exit_threshold: float | None = None
    use_exit: bool = True
    top_k: int = 0
    wait_s: float = 10.0
    timeout_s: float = 10.0
    max_wait_s: float = 0.0
    deadline_s: float | None = None
    start_offline: bool = False
    security: Security = field(default_factory=Security)
    spool: SpoolSettings | None = None

    @property
    def link(self) -> LinkSettings:
        """The settings of the link; with a spool it may start without a server."""
        patient = self.start_offline or self.spool is not None
        return LinkSettings(self.servers, self.security, self.wait_s, self.timeout_s, patient)

    @property
    def planned(self) -> bool:
        """Whether the planning policy is used: ``auto`` with a goal."""
        goals = (self.lifetime_s, self.min_accuracy, self.max_bytes)
        return any(goal is not None for goal in goals) and self.fraction == AUTO

    def __post_init__(self) -> None:
        ways = (
            self.battery_percent,
            self.battery_command,
            self.battery_file,
            self.battery_plugin,
        )
        if sum(way is not None for way in ways) > 1:
            raise UsageError(
                "--battery, --battery-command, --battery-file, --battery-plugin: give one of them"
            )
        if self.exit_threshold is not None:
            check_threshold(self.exit_threshold)
            if not self.use_exit:
                raise UsageError("--exit-threshold: cannot be given together with --no-exit")
        if not 0 <= self.max_wait_s <= 60:
            raise UsageError(
                f"--max-wait-ms: {1000 * self.max_wait_s:g} is not allowed; 0 to 60000"
            )
        if not self.timeout_s > 0:
            raise UsageError(f"--timeout: {self.timeout_s:g} is not allowed; give more than 0")
