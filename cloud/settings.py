"""The server's settings, from flags, the environment (``TAPER_...``) and a file, in this order."""

from __future__ import annotations

import json
import logging
import os
import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared.errors import UsageError
from shared.protocol.messages import DEFAULT_MAX_MESSAGE_BYTES

PREFIX = "TAPER_"
_log = logging.getLogger(__name__)
LARGEST_PORT = 65535


class FrontKind(str, Enum):
    """The implementation of the gRPC port."""

    AUTO = "auto"
    PYTHON = "python"
    NATIVE = "native"


class LogFormat(str, Enum):
    """Format of log lines."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(str, Enum):
    """The least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ServerSettings(BaseSettings):
    """All settings of the server, made by ``load``. The flag of a field has ``-`` for ``_``.

    Holds only the paths of files with secrets, no secrets.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = "0.0.0.0"  # noqa: S104 - a server in a container must listen on all addresses
    port: int = Field(50051, ge=0, le=LARGEST_PORT)
    http_port: int | None = Field(None, ge=0, le=LARGEST_PORT)
    model: Annotated[tuple[str, ...], NoDecode] = ()
    models: Path | None = None
    models_poll_seconds: float = Field(2.0, gt=0.0, le=3600.0)
    workers: int = Field(1, ge=1, le=256)
    front: FrontKind = FrontKind.PYTHON
    threads: int = Field(1, ge=1, le=256)

    max_batch: int = Field(32, ge=1, le=1024)
    max_delay_us: int = Field(1000, ge=0, le=1_000_000)
    slo_ms: float = Field(50.0, gt=0.0, le=60_000.0)
    cloud_fraction: float | None = Field(None, gt=0.0, le=1.0)
    max_queue: int = Field(8192, ge=1, le=1_000_000)

    max_message_bytes: int = Field(DEFAULT_MAX_MESSAGE_BYTES, ge=1024, le=256 * 2**20)
    max_streams_per_client: int = Field(1024, ge=1)
    max_connections_per_client: int = Field(256, ge=1)
    max_calls_per_client: int = Field(4096, ge=1)
    max_bytes_per_client: int = Field(64 * 2**20, ge=1024)
    max_stream_seconds: float = Field(3600.0, gt=0.0)
    drain_seconds: float = Field(5.0, ge=0.0, le=3600.0)

    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    token_file: Path | None = None
    admin_token_file: Path | None = None

    mqtt: str | None = None
    mqtt_ca: Path | None = None

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=0, le=LARGEST_PORT)
    log_format: LogFormat = LogFormat.CONSOLE
    log_level: LogLevel = LogLevel.INFO
    reflection: bool = True
    otlp_endpoint: str | None = Field(None, pattern=r"^https?://[^/ ]+$")

    @field_validator("model", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Split a list in the environment at its commas."""
        if isinstance(value, str):
            return tuple(part for part in value.split(",") if part)
        return value

    @model_validator(mode="after")
    def _belong_together(self) -> ServerSettings:
        # ``load`` replaces field names in braces by the flag, variable or line that the user wrote.
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("{tls_cert} and {tls_key}: must be given together")
        if self.client_ca is not None and self.tls_cert is None:
            raise ValueError("{client_ca}: needs {tls_cert} and {tls_key}")
        if self.mqtt is not None and urlsplit(self.mqtt).password is not None:
            raise ValueError("{mqtt}: no password may stand here; TAPER_BROKER_PASSWORD holds it")
        if self.mqtt is not None and self.workers > 1:
            raise ValueError(
                "{mqtt}: needs {workers} 1, since a broker's user has one connection; servers with "
                "users of their own share the requests"
            )
        if self.mqtt_ca is not None and self.mqtt is None:
            raise ValueError("{mqtt_ca}: needs {mqtt}")
        if self.http_port == 0 and self.workers > 1:
            raise ValueError("{http_port}: several workers cannot share port 0; name one")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only what ``load`` passes in; by default pydantic reads the environment itself."""
        return (init_settings,)


def flag(field: str) -> str:
    """Return the flag of a field."""
    return "--" + field.replace("_", "-")


def load(
    flags: Mapping[str, Any],
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ServerSettings:
    """Read the settings: a flag overrides the environment, which overrides the file ``config``.

    ``flags`` holds None for those that were not given. The variable ``TAPER_CONFIG`` names the file
    if ``config`` is None. Raises ``UsageError`` that names the flag, variable or line of the file.
    """
    variables = os.environ if environment is None else environment
    path = config
    if path is None and variables.get(PREFIX + "CONFIG"):
        path = Path(variables[PREFIX + "CONFIG"])
    sources: list[tuple[str, dict[str, Any]]] = [
        ("flag", {name: value for name, value in flags.items() if value is not None}),
        ("environment", _from_environment(variables)),
        ("file", {} if path is None else _from_file(path)),
    ]
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for kind, values in sources:
        for name, value in values.items():
            if name not in merged:
                merged[name] = value
                origin[name] = _spelling(kind, name, path)
    try:
        return ServerSettings(**merged)
    except ValidationError as error:
        raise UsageError(_explain(error, origin)) from None


def to_toml(settings: ServerSettings) -> str:
    """Return the settings as a TOML file for ``--config``, without those that are not set."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def _from_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for name in ServerSettings.model_fields:
        variable = PREFIX + name.upper()
        value = variables.get(variable)
        if value and name.endswith("port") and "://" in value:
            _log.warning(
                "%s is ignored: %s is the address of a Kubernetes service", variable, value
            )
        elif value:
            found[name] = value
    return found


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"--config: {path} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {path} is no TOML ({error})") from None
    unknown = sorted(set(values) - set(ServerSettings.model_fields))
    if unknown:
        raise UsageError(f"--config: {path}: {unknown[0]!r} is no setting; see --print-config")
    return values


def _spelling(kind: str, name: str, path: Path | None) -> str:
    """Return a setting's name as the user wrote it, for error messages."""
    if kind == "environment":
        return PREFIX + name.upper()
    return flag(name) if kind == "flag" else f"{name} in {path}"


def _explain(error: ValidationError, origin: Mapping[str, str]) -> str:
    fields = ServerSettings.model_fields
    first = error.errors(include_url=False, include_context=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message.format_map({name: origin.get(name, flag(name)) for name in fields})
    name = str(first["loc"][0])
    where = origin.get(name, flag(name))
    given = str(first["input"])[:80]
    allowed = message.removeprefix("Input ")
    return f"{where}: {given!r} is not allowed; it {allowed}"
