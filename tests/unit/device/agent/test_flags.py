"""The agent's command line, its config file, and its installation."""

from __future__ import annotations

import configparser
import socket
import tomllib
from pathlib import Path

import pytest

from device.agent.command import install_agent
from device.agent.flags import default_name, parse
from shared.errors import UsageError


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_what_the_client_has_the_agent_has(tmp_path: Path) -> None:
    line = parse(
        [
            *("--server", "a:1", "--server", "b:2", "--spool", str(tmp_path / "s"), "--token", "t"),
            *("--tls", "--lifetime", "7d", "--exit-threshold", "0.8", "--max-wait-ms", "50"),
            *("--input", "camera:1", "--every", "2s", "--on-change", "--invert"),
            *("--rate", "0.5", "--telemetry", "1m", "--device", "pi", "--group", "north"),
        ]
    )
    client = line.client
    assert client.servers == ("a:1", "b:2")
    assert (client.lifetime_s, client.exit_threshold, client.max_wait_s) == (7 * 86_400, 0.8, 0.05)
    assert client.spool is not None
    assert client.security.token == "t"
    assert client.start_offline
    assert line.live.every_s == 2.0
    assert line.live.on_change
    assert line.live.patient
    assert line.changes.invert
    assert (line.defaults.rate_per_s, line.defaults.telemetry_s) == (0.5, 60.0)
    assert line.groups == ("north",)


def test_a_config_file_holds_flags_and_the_command_line_wins(tmp_path: Path) -> None:
    config = write(
        tmp_path / "agent.toml",
        'device = "pi"\nserver = ["a:1", "b:2"]\nrate = 0.5\nexit = false\nstart-offline = true\n'
        'on_change = true\ninput = "camera"\n',
    )
    line = parse(["--config", config, "--rate", "3", "--server", "c:3"])
    assert line.device == "pi"
    assert line.client.servers == ("c:3",)
    assert line.defaults.rate_per_s == 3
    assert not line.client.use_exit
    assert line.live.on_change


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sever = 'a:1'", "'sever' is unknown"),
        ("config = 'x'", "'config' is unknown"),
        ("rate = -1", "--rate: '-1' is not allowed"),
        ("rate = 1970-01-01", "rate: give a word"),
        ("device = 'a b'", "--device"),
        ("device = ", "cannot be read"),
    ],
)
def test_a_wrong_config_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        parse(["--config", write(tmp_path / "agent.toml", text)])
    with pytest.raises(UsageError, match=r"nothing\.toml cannot be read"):
        parse(["--config", str(tmp_path / "nothing.toml")])


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("pi.kitchen.example.org", "pi-kitchen-example-org"),
        ("Pi_4", "Pi_4"),
        ("-odd.", "odd"),
        ("...", "device"),
        ("x" * 90, "x" * 64),
    ],
)
def test_a_host_name_becomes_a_name_that_the_fleet_allows(
    monkeypatch: pytest.MonkeyPatch, host: str, name: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert default_name() == name
    assert parse([]).device == name


def test_certificates_need_something_to_secure() -> None:
    with pytest.raises(UsageError, match="need --tls, or --broker mqtts"):
        parse(["--ca", "ca.pem"])
    with pytest.raises(UsageError, match=r"--input: nothing\.png cannot be read"):
        parse(["--input", "nothing.png"])


def test_installing_writes_a_config_file_and_a_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, units = tmp_path / "etc" / "agent.toml", tmp_path / "units"
    where = ["--config-file", str(config), "--unit-folder", str(units)]
    (tmp_path / "m.safetensors").touch()
    flags = ["--server", "edge:1", "--device", "pi", "--input", "camera", "--rate=2", "--no-exit"]
    flags += ["--labels", str(tmp_path / "labels.csv")]
    install_agent([*where, *flags])
    values = tomllib.loads(config.read_text())
    assert values == {
        "ledger": "/var/lib/taper/agent.sqlite",
        "model-folder": "/var/lib/taper/models",
        "server": ["edge:1"],
        "device": "pi",
        "input": ["camera"],
        "rate": 2.0,
        "exit": False,
        "labels": str(tmp_path / "labels.csv"),
    }
    assert config.stat().st_mode & 0o777 == 0o600  # passwords may be in it
    line = parse(["--config", str(config)])
    assert (line.device, line.client.use_exit) == ("pi", False)
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(units / "taper-agent.service")
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["ExecStart"].endswith("-m device.agent --config %d/agent.toml")
    assert unit["Service"]["LoadCredential"] == f"agent.toml:{config}"
    assert int(unit["Service"]["WatchdogSec"]) > 0
    assert "systemctl enable --now taper-agent" in capsys.readouterr().out
    with pytest.raises(UsageError, match="is there already"):
        install_agent([*where, *flags])
    install_agent([*where, *flags, "--force"])


def test_installing_checks_the_flags_and_the_place(tmp_path: Path) -> None:
    where = ["--config-file", str(tmp_path / "a.toml"), "--unit-folder", str(tmp_path)]
    with pytest.raises(UsageError, match="--rate"):
        install_agent([*where, "--rate", "x"])
    assert not (tmp_path / "a.toml").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        install_agent(["--config-file", str(tmp_path / "file" / "a.toml")])
