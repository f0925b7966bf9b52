"""Where settings come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud.settings import flag, load, to_toml
from shared.errors import UsageError

DEFAULTS = load({}, None, {})


def file(folder: Path, text: str) -> Path:
    path = folder / "server.toml"
    path.write_text(text)
    return path


def test_a_flag_beats_the_environment_and_that_beats_a_file(tmp_path: Path) -> None:
    path = file(tmp_path, "slo_ms = 10.0\nmax_batch = 8\nmax_queue = 100\n")
    variables = {"TAPER_SLO_MS": "20", "TAPER_MAX_BATCH": "16"}
    settings = load({"slo_ms": 30.0, "max_batch": None}, path, variables)
    assert (settings.slo_ms, settings.max_batch, settings.max_queue) == (30.0, 16, 100)
    assert settings.workers == DEFAULTS.workers


def test_the_environment_may_name_the_file_and_a_flag_another(tmp_path: Path) -> None:
    named = file(tmp_path, "max_queue = 100\n")
    variables = {"TAPER_CONFIG": str(named)}
    assert load({}, None, variables).max_queue == 100
    other = tmp_path / "other.toml"
    other.write_text("max_queue = 200\n")
    assert load({}, other, variables).max_queue == 200


def test_lists_empty_variables_and_those_of_others() -> None:
    variables = {"TAPER_MODEL": "a,b,", "TAPER_PORT": "", "TAPER_BROKER": "x", "PORT": "1"}
    settings = load({}, None, variables)
    assert settings.model == ("a", "b")
    assert settings.port == DEFAULTS.port


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cloud_fraction": 0.5, "model": ("a", "b"), "models": Path("/a b/\"c'")},
        {"reflection": False, "otlp_endpoint": "http://collector:4317", "workers": 4},
        {"tls_cert": Path("c"), "tls_key": Path("k"), "client_ca": Path("a")},
    ],
)
def test_what_is_printed_is_read_back(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = load(changes, None, {})
    assert load({}, file(tmp_path, to_toml(settings)), {}) == settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("workers", 0),
        ("slo_ms", 0.0),
        ("slo_ms", float("nan")),
        ("cloud_fraction", 0.0),
        ("cloud_fraction", 1.5),
        ("cloud_fraction", float("nan")),
        ("max_batch", "many"),
        ("max_message_bytes", 10),
        ("max_streams_per_client", 0),
        ("max_connections_per_client", 0),
        ("drain_seconds", -1.0),
        ("log_level", "loud"),
        ("otlp_endpoint", "collector"),
    ],
)
def test_a_wrong_value_is_named_as_it_was_written(field: str, value: object) -> None:
    with pytest.raises(UsageError) as raised:
        load({field: value}, None, {})
    assert str(raised.value).startswith(f"{flag(field)}: {str(value)!r} is not allowed; it ")
    with pytest.raises(UsageError) as raised:
        load({}, None, {f"TAPER_{field.upper()}": str(value)})
    assert str(raised.value).startswith(f"TAPER_{field.upper()}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("slo = 3\n", "'slo' is no setting"),
        ("slo_ms = \n", "is no TOML"),
        ("slo_ms = 0\n", "slo_ms in "),
        ("[server]\nport = 1\n", "'server' is no setting"),
        ("\0", "is no TOML"),
    ],
)
def test_a_wrong_file_is_named(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=named) as raised:
        load({}, file(tmp_path, text), {})
    assert "server.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--config: .*nowhere cannot be read"):
        load({}, tmp_path / "nowhere", {})


@pytest.mark.parametrize("given", [{"tls_cert": "c"}, {"tls_key": "k"}, {"client_ca": "a"}])
def test_tls_files_belong_together(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--tls-cert"):
        load(given, None, {})


def test_what_belongs_together_is_named_as_it_was_written(tmp_path: Path) -> None:
    path = file(tmp_path, 'tls_key = "k"\n')
    with pytest.raises(UsageError, match=rf"^--tls-cert and tls_key in {path}: must be given"):
        load({}, path, {})
    with pytest.raises(UsageError, match=r"^TAPER_TLS_CERT and --tls-key: must be given together$"):
        load({}, None, {"TAPER_TLS_CERT": "c"})
    with pytest.raises(UsageError, match=r"^TAPER_CLIENT_CA: needs --tls-cert and --tls-key$"):
        load({}, None, {"TAPER_CLIENT_CA": "a"})


@pytest.mark.parametrize("variable", ["TAPER_PORT", "TAPER_METRICS_PORT"])
def test_the_variable_of_a_kubernetes_service_is_ignored_with_a_note(
    variable: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load({}, None, {variable: "tcp://10.0.0.7:50051"})
    assert settings == DEFAULTS
    assert f"{variable} is ignored" in caplog.text
