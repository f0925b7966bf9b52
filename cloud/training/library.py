"""Training as a library: one call turns data into a network and a report.

``train`` does what ``python -m cloud.training.train`` does, but writes no files by default::

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
    """The result of a training.

    net         the network, calibrated, in evaluation mode, on the CPU
    bundle      the bundle for servers and devices; its accuracy at every pair of levels on the test
                split is in ``metadata.accuracy``
                validation  accuracy on the held-out pictures, at several "d,c"
                epochs      the epochs trained by this call, without those of a checkpoint
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

    ``data`` is the name of a data set below ``data_dir``, or splits in memory. ``network`` is a
    name of ``ARCHITECTURES``, a file (*.toml), or an architecture. ``device`` is auto, cpu or cuda.
    ``checkpoint`` is a file for the training's state; if it exists, the training is resumed from
    it.

    Raises ``UsageError`` or ``DatasetError`` that names the wrong argument.
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
