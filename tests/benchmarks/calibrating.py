"""Calibrate a network on pictures of a folder in this process, whose memory is then looked at.

``python -m tests.benchmarks.calibrating FOLDER COUNT``: FOLDER has ``train-images.npy``, the
network is suggested for their size. One device and one cloud level, the widest: all of them take
no more memory, since each is measured alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from cloud.training.data.datasets import Dataset
from cloud.training.split.calibration import calibrate
from cloud.training.split.settings import Settings
from cloud.training.split.suggest import suggest
from shared.model.architecture import Shape
from shared.networks.binarynet import BinaryNet

CLASSES, DEVICE_MACS, PAYLOAD_BYTES = 4, 20e6, 300

if __name__ == "__main__":
    images = np.load(Path(sys.argv[1]) / "train-images.npy", mmap_mode="c")
    made = suggest(Shape(*images.shape[1:]), CLASSES, DEVICE_MACS, PAYLOAD_BYTES, "own")
    net = BinaryNet(replace(made, device_levels=(1.0,), cloud_levels=(1.0,)))
    names = tuple(str(label) for label in range(CLASSES))
    data = Dataset("pictures", images, np.zeros(len(images), np.int64), names, "")
    calibrate(net, data, Settings(calibration_images=int(sys.argv[2])))
