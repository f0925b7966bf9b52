"""Predict the seconds that decoding and computing take, from what earlier batches took."""

from __future__ import annotations

from shared.model.architecture import Architecture

LEARNING_RATE = 0.05  # weight of one more batch in the running sums
OUTLIER = 4.0  # a batch that took longer than this many times the prediction counts as this much
PRIOR_WEIGHT = 0.02  # of the fit so far, against one batch
LEAST_FIXED_S, LEAST_SAMPLE_S = 1e-7, 1e-9
SECONDS_PER_MAC = 5e-12  # first guess, of a slow kernel
RUN_FIXED_S = 20e-6
DECODE_FIXED_S = 2e-6
DECODE_SAMPLE_S = 5e-6


class LinearFit:
    """Seconds of a batch as ``fixed + samples * per_sample``, fitted to the batches that ran.

    Weighted least squares on relative errors, with exponential forgetting. As long as all batches
    have the same size, a weak pull towards the fit so far decides how much of the time is fixed.
    """

    def __init__(self, fixed_s: float, sample_s: float) -> None:
        self.fixed_s = fixed_s
        self.sample_s = sample_s
        self.measured = False
        self._guess = (fixed_s, sample_s)
        # Sums over batches of weight times 1, x, x^2, y, x*y, where x = samples, y = seconds.
        self._sums = [0.0] * 5

    def seconds(self, samples: int) -> float:
        """The prediction for a batch."""
        return self.fixed_s + samples * self.sample_s

    def guess(self, sample_s: float) -> None:
        """Replace the first guess of the time of a sample, as long as nothing was measured."""
        if not self.measured:
            self.sample_s = sample_s
            self._guess = (self.fixed_s, sample_s)

    def learn(self, samples: int, seconds: float) -> None:
        """Take in that a batch of ``samples`` took ``seconds``."""
        seconds = max(seconds, 1e-9)
        if not self.measured:
            fixed_s = min(self.fixed_s, seconds / 2)
            self._guess = (fixed_s, (seconds - fixed_s) / samples)
            self.measured = True
        else:
            seconds = min(seconds, OUTLIER * self.seconds(samples))
        weight = 1.0 / seconds**2
        terms = (1.0, samples, samples**2, seconds, samples * seconds)
        keep = 1.0 - LEARNING_RATE
        self._sums = [
            keep * total + weight * term for total, term in zip(self._sums, terms, strict=True)
        ]
        self._solve()

    def _solve(self) -> None:
        fixed_s, sample_s = self._guess
        ones, x, xx, y, xy = self._sums
        pull_fixed, pull_sample = PRIOR_WEIGHT / fixed_s**2, PRIOR_WEIGHT / sample_s**2
        a, d = ones + pull_fixed, xx + pull_sample
        right_a, right_d = y + pull_fixed * fixed_s, xy + pull_sample * sample_s
        determinant = a * d - x * x
        fixed = (right_a * d - right_d * x) / determinant
        sample = (right_d * a - right_a * x) / determinant
        if fixed < 0.0:
            fixed, sample = 0.0, right_d / d
        elif sample < 0.0:
            fixed, sample = right_a / a, 0.0
        self.fixed_s, self.sample_s = fixed, sample
        self._guess = (max(fixed, LEAST_FIXED_S), max(sample, LEAST_SAMPLE_S))


class CostModel:
    """Predictions for one model: computing by pair of levels, decoding by encoding and level.

    Pairs of levels that have not run yet follow the first that did, in proportion to their
    multiply-accumulates.
    """

    def __init__(self, architecture: Architecture) -> None:
        self._macs = [
            [architecture.cloud_macs(level, c) for c in range(len(architecture.cloud_levels))]
            for level in range(len(architecture.device_levels))
        ]
        self._runs = [
            [LinearFit(RUN_FIXED_S, macs * SECONDS_PER_MAC) for macs in row] for row in self._macs
        ]
        self._decodes: dict[tuple[int, int], LinearFit] = {}

    def run_s(self, level: int, cloud_level: int, samples: int) -> float:
        """Seconds to compute ``samples`` in one batch at the two levels."""
        return self._runs[level][cloud_level].seconds(samples)

    def sample_s(self, level: int, cloud_level: int) -> float:
        """Seconds that one more sample adds to a batch."""
        return self._runs[level][cloud_level].sample_s

    def decode_s(self, encoding: int, level: int, samples: int) -> float:
        """Seconds to decode one request of ``samples``."""
        return self._decode(encoding, level).seconds(samples)

    def most_samples(
        self, encoding: int, level: int, cloud_level: int, budget_s: float, limit: int
    ) -> int:
        """Samples that can be decoded and computed within ``budget_s``, at most ``limit``."""
        decode, run = self._decode(encoding, level), self._runs[level][cloud_level]
        rest_s = budget_s - decode.fixed_s - run.fixed_s
        each_s = decode.sample_s + run.sample_s
        return max(0, min(limit, int(rest_s / each_s))) if each_s > 0.0 else limit

    def learn_run(self, level: int, cloud_level: int, samples: int, seconds: float) -> None:
        """Take in what computing a batch took."""
        fit = self._runs[level][cloud_level]
        first = not fit.measured
        fit.learn(samples, seconds)
        if first:
            scale = fit.sample_s / self._macs[level][cloud_level]
            for fits, macs in zip(self._runs, self._macs, strict=True):
                for other, count in zip(fits, macs, strict=True):
                    other.guess(count * scale)

    def learn_decode(self, encoding: int, level: int, samples: int, seconds: float) -> None:
        """Take in what decoding a request took."""
        self._decode(encoding, level).learn(samples, seconds)

    def _decode(self, encoding: int, level: int) -> LinearFit:
        key = (encoding, level)
        fit = self._decodes.get(key)
        if fit is None:
            fit = self._decodes[key] = LinearFit(DECODE_FIXED_S, DECODE_SAMPLE_S)
        return fit
