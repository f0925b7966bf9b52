"""Networks are kept with all of their state, and read back ready for use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cloud.training.split.network_file import (
    Trained,
    load_network,
    save_network,
    write_network,
)
from cloud.training.split.settings import Settings
from shared.errors import UsageError
from shared.networks.binarynet import BinaryNet
from tests.support.trainings import tiny

IMAGES = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)


def network() -> BinaryNet:
    torch.manual_seed(0)
    return BinaryNet(tiny())


@torch.no_grad()
def test_a_calibrated_network_answers_alike_after_loading(tmp_path: Path) -> None:
    net = network().eval()
    net.calibrate(IMAGES)
    save_network(net, tmp_path / "net")
    again = load_network(tmp_path / "net")
    assert again.architecture == net.architecture
    assert not again.training
    assert torch.equal(again(IMAGES.float(), 1, 1), net(IMAGES.float(), 1, 1))


@torch.no_grad()
def test_small_files_of_training_are_read_too_and_want_calibration(tmp_path: Path) -> None:
    net = network()
    write_network(tmp_path / "net", net, Trained("tiny", "bars", "", Settings(), {}))
    again = load_network(tmp_path / "net").eval()
    with pytest.raises(RuntimeError, match="has no statistics"):
        again(IMAGES.float(), 1, 1)
    signs = [p >= 0 for p in net.parameters() if p.dim() == 4]
    assert all(
        torch.equal(a, b >= 0)
        for a, b in zip(signs, (p for p in again.parameters() if p.dim() == 4), strict=True)
    )


@pytest.mark.parametrize("content", [b"", b"my notes", b"\x08\0\0\0\0\0\0\0{}      "])
def test_other_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(UsageError, match="net: ") as caught:
        load_network(tmp_path / "net")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="there is no such file"):
        load_network(tmp_path / "nothing")
