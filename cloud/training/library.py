"""Training as a library: data in, a network and a report out, in one call.

``train`` does what ``python -m cloud.training.train`` does, without files unless it is given some::

    report = train("clothes", "compact", Settings(epochs=20))
    write_bundle(report.bundle, Path("clothes.safetensors"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloud.training.data.datasets import Splits, splits_of
from cloud.training.split.fit import EpochReport
from cloud.training.split.job import Job
from cloud.training.split.making import architecture_of, bundle_of
from cloud.training.split.processor import processor
from cloud.training.split.settings import Settings
from shared.model.architecture import Architecture
from shared.model.bundle import Bundle
from shared.networks.binarynet import BinaryNet

DEFAULTS = Settings()


@dataclass(frozen=True)
class Report:
    """What a training gave.

    net         the network, calibrated, in evaluation mode, on the CPU
    bundle      what servers and devices run, with its accuracy at every pair of levels on the test
                split in ``metadata.accuracy``
    validation  share of the held-out pictures that the network answers right, at several "d,c"
    epochs      the epochs of this call, without those that a checkpoint had
    """

    net: BinaryNet
    bundle: Bundle
    validation: dict[str, float]
    epochs: tuple[EpochReport, ...]


def train(
    data: str | Splits,
    network: str | Path | Architecture,
    settings: Settings = DEFAULTS,
    *,
    data_dir: Path = Path("data"),
    device: str = "auto",
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
) -> Report:
    """Train ``network`` on ``data``, calibrate it, and measure it on the test split.

    ``data``: the name of a data set below ``data_dir``, or parts in memory. ``network``: a name of
    ``ARCHITECTURES``, a file (*.toml), or an architecture. ``device``: auto, cpu or cuda.
    ``checkpoint``: the state of the training, from which it goes on if it is there.

    ``UsageError`` or ``DatasetError`` says which of them is wrong.
    """
    given = splits_of(data, data_dir) if isinstance(data, str) else data
    made = architecture_of(network, given)
    reports: list[EpochReport] = []

    def take(report: EpochReport) -> None:
        reports.append(report)
        on_epoch(report)

    place = processor(device)
    job = Job(made, settings, given.train, given.validation, place, checkpoint)
    fit, _ = job.prepare()
    job.run(fit, on_epoch=take)
    validation = fit.validate()
    bundle = bundle_of(fit.net, given, settings, given.train.name)
    return Report(fit.net, bundle, validation, tuple(reports))
