"""What computing costs: microseconds of a batch at any pair of levels, learned from what ran."""

from __future__ import annotations

from collections.abc import Sequence

from shared.model.architecture import Architecture

LEARNING_RATE = 0.1  # weight of one more batch in the running mean
FIRST_GUESS_US_PER_MAC = 5e-6  # a slow kernel: a guess that is too high makes nobody wait


class CostModel:
    """Time of a batch: samples times the time of one, plus what a batch costs by itself.

    Only the device level and cloud level that ran are measured; the others follow in proportion to
    their multiply-accumulates until they run too. Times are seconds.
    """

    def __init__(self, architecture: Architecture, fixed_s: float = 20e-6) -> None:
        self._macs = [
            [architecture.cloud_macs(level, c) for c in range(len(architecture.cloud_levels))]
            for level in range(len(architecture.device_levels))
        ]
        self._fixed_s = fixed_s
        self._scale_s = FIRST_GUESS_US_PER_MAC * 1e-6  # seconds of a multiply-accumulate, at first
        self._sample_s: list[list[float]] = [
            [macs * self._scale_s for macs in row] for row in self._macs
        ]
        self._measured = [[False] * len(row) for row in self._macs]

    def batch_s(self, level: int, cloud_level: int, samples: int) -> float:
        """Seconds of a batch of ``samples`` at the two levels."""
        return self._fixed_s + samples * self._sample_s[level][cloud_level]

    def sample_s(self, level: int, cloud_level: int) -> float:
        """Seconds that one sample more adds to a batch."""
        return self._sample_s[level][cloud_level]

    def by_cloud_level(self, level: int) -> Sequence[float]:
        """Seconds of a sample at every cloud level, narrowest first."""
        return self._sample_s[level]

    def learn(self, level: int, cloud_level: int, samples: int, seconds: float) -> None:
        """A batch of ``samples`` took ``seconds``."""
        found = max(seconds - self._fixed_s, 0.1 * seconds) / samples
        row = self._sample_s[level]
        if self._measured[level][cloud_level]:
            # One batch that lost the CPU for a while says little about the next.
            found = min(found, 4.0 * row[cloud_level])
            row[cloud_level] += LEARNING_RATE * (found - row[cloud_level])
            return
        self._measured[level][cloud_level] = True
        row[cloud_level] = found
        self._guess(found / self._macs[level][cloud_level])

    def _guess(self, scale_s: float) -> None:
        for level, row in enumerate(self._macs):
            for cloud_level, macs in enumerate(row):
                if not self._measured[level][cloud_level]:
                    self._sample_s[level][cloud_level] = macs * scale_s
