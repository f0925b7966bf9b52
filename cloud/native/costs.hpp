// Predicts the seconds of decoding and computing from the measured times of earlier batches.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace taper {

constexpr double kRunFixedS = 20e-6;  // initial guess of the fixed part of a batch's time

// Models the seconds of a batch as fixed_s + samples * sample_s. The two are fitted to the batches
// that ran, by weighted least squares on relative errors with exponential forgetting. While all
// batches have the same size, the two cannot be told apart; then a small weight on the previous fit
// decides.
class LinearFit {
 public:
  LinearFit(double fixed_s, double sample_s);

  double fixed_s() const { return fixed_s_; }
  double sample_s() const { return sample_s_; }
  bool measured() const { return measured_; }

  // The predicted seconds of a batch.
  double seconds(double samples) const { return fixed_s_ + samples * sample_s_; }

  // Replaces the initial guess of the time of a sample, unless a batch was measured already.
  void guess(double sample_s);

  // Updates the fit with a batch of `samples` that took `seconds`.
  void learn(double samples, double seconds);

 private:
  void solve();

  double fixed_s_;
  double sample_s_;
  bool measured_ = false;
  std::pair<double, double> guess_;
  // Weighted sums over batches of 1, x, x^2, y and x*y, where x = samples and y = seconds.
  std::array<double, 5> sums_{};
};

// Predictions for one model: for computing by pair of levels, for decoding by encoding and level.
// The guess for a pair that has not run yet is that of the first pair that did, scaled by their
// multiply-accumulates. Any thread may call any method.
class CostModel {
 public:
  // `macs[level][cloud_level]`: multiply-accumulates per sample. Throws std::invalid_argument if it
  // is empty or its rows differ in length.
  explicit CostModel(std::vector<std::vector<double>> macs);

  std::size_t levels() const { return macs_.size(); }
  std::size_t cloud_levels() const { return macs_.front().size(); }

  // Seconds to compute `samples` in one batch at the two levels.
  double run_s(std::size_t level, std::size_t cloud_level, double samples) const;

  // The fixed seconds of a batch, and the seconds of each sample.
  std::pair<double, double> run_fit(std::size_t level, std::size_t cloud_level) const;

  // Seconds that one more sample adds to a batch.
  double sample_s(std::size_t level, std::size_t cloud_level) const;

  // Seconds to decode one request of `samples`.
  double decode_s(int encoding, std::size_t level, double samples) const;

  // Samples that can be decoded and computed within `budget_s`, at most `limit`.
  std::uint32_t most_samples(int encoding, std::size_t level, std::size_t cloud_level,
                             double budget_s, std::uint32_t limit) const;

  // Update the predictions with the measured seconds of computing a batch, or of decoding a
  // request.
  void learn_run(std::size_t level, std::size_t cloud_level, double samples, double seconds);
  void learn_decode(int encoding, std::size_t level, double samples, double seconds);

 private:
  const LinearFit& run(std::size_t level, std::size_t cloud_level) const;
  LinearFit decode(int encoding, std::size_t level) const;

  mutable std::mutex mutex_;
  std::vector<std::vector<double>> macs_;
  std::vector<std::vector<LinearFit>> runs_;
  std::map<std::pair<int, std::size_t>, LinearFit> decodes_;
};

}  // namespace taper
