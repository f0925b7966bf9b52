"""Calibrate a network on a folder's pictures in this process, whose memory the caller measures.

``python -m tests.benchmarks.calibrating FOLDER COUNT``: FOLDER has ``train-images.npy``; the
network is the one suggested for their size. Only the widest device and cloud level are calibrated:
all levels would need no more memory, since each is calibrated alone.
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
