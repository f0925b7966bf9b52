// Predicts the seconds that decoding and computing take, from what earlier batches took.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace taper {

constexpr double kRunFixedS = 20e-6;  // first guess of the time of a batch besides its samples

// Seconds of a batch as fixed + samples * per sample, fitted to the batches that ran: weighted least
// squares on relative errors, with exponential forgetting. As long as all batches have the same size,
// a weak pull towards the fit so far decides how much of the time is fixed.
class LinearFit {
 public:
  LinearFit(double fixed_s, double sample_s);

  double fixed_s() const { return fixed_s_; }
  double sample_s() const { return sample_s_; }
  bool measured() const { return measured_; }

  // The prediction for a batch.
  double seconds(double samples) const { return fixed_s_ + samples * sample_s_; }

  // Replaces the first guess of the time of a sample, as long as nothing was measured.
  void guess(double sample_s);

  // Takes in that a batch of `samples` took `seconds`.
  void learn(double samples, double seconds);

 private:
  void solve();

  double fixed_s_;
  double sample_s_;
  bool measured_ = false;
  std::pair<double, double> guess_;
  // Sums over batches of weight times 1, x, x^2, y, x*y, where x = samples, y = seconds.
  std::array<double, 5> sums_{};
};

// Predictions for one model: computing by pair of levels, decoding by encoding and level. Pairs of
// levels that have not run yet follow the first that did, in proportion to their
// multiply-accumulates. Any thread may call.
class CostModel {
 public:
  // `macs[level][cloud_level]`: multiply-accumulates of a sample. Throws std::invalid_argument if
  // there is no pair of levels, or rows differ in length.
  explicit CostModel(std::vector<std::vector<double>> macs);

  std::size_t levels() const { return macs_.size(); }
  std::size_t cloud_levels() const { return macs_.front().size(); }

  // Seconds to compute `samples` in one batch at the two levels.
  double run_s(std::size_t level, std::size_t cloud_level, double samples) const;

  // Seconds of a batch besides its samples, and of each sample.
  std::pair<double, double> run_fit(std::size_t level, std::size_t cloud_level) const;

  // Seconds that one more sample adds to a batch.
  double sample_s(std::size_t level, std::size_t cloud_level) const;

  // Seconds to decode one request of `samples`.
  double decode_s(int encoding, std::size_t level, double samples) const;

  // Samples that can be decoded and computed within `budget_s`, at most `limit`.
  std::uint32_t most_samples(int encoding, std::size_t level, std::size_t cloud_level,
                             double budget_s, std::uint32_t limit) const;

  // Takes in what computing a batch took, or decoding a request.
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
