#include "costs.hpp"

#include <algorithm>
#include <stdexcept>

namespace taper {
namespace {

constexpr double kLearningRate = 0.05;  // weight of a new batch in the running sums
constexpr double kOutlier = 4.0;        // measured times are limited to this multiple of the prediction
constexpr double kPriorWeight = 0.02;   // weight of the previous fit, relative to one batch
constexpr double kLeastFixedS = 1e-7;
constexpr double kLeastSampleS = 1e-9;
constexpr double kSecondsPerMac = 5e-12;  // initial guess, that of a slow kernel
constexpr double kDecodeFixedS = 2e-6;
constexpr double kDecodeSampleS = 5e-6;

}  // namespace

LinearFit::LinearFit(double fixed_s, double sample_s)
    : fixed_s_(fixed_s), sample_s_(sample_s), guess_(fixed_s, sample_s) {}

void LinearFit::guess(double sample_s) {
  if (measured_) return;
  sample_s_ = sample_s;
  guess_ = {fixed_s_, sample_s};
}

void LinearFit::learn(double samples, double seconds) {
  seconds = std::max(seconds, 1e-9);
  if (!measured_) {
    const double fixed_s = std::min(fixed_s_, seconds / 2);
    guess_ = {fixed_s, (seconds - fixed_s) / samples};
    measured_ = true;
  } else {
    seconds = std::min(seconds, kOutlier * this->seconds(samples));
  }
  const double weight = 1.0 / (seconds * seconds);
  const double terms[] = {1.0, samples, samples * samples, seconds, samples * seconds};
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    sums_[i] = (1.0 - kLearningRate) * sums_[i] + weight * terms[i];
  }
  solve();
}

void LinearFit::solve() {
  const auto [fixed_s, sample_s] = guess_;
  const auto [ones, x, xx, y, xy] = sums_;
  const double pull_fixed = kPriorWeight / (fixed_s * fixed_s);
  const double pull_sample = kPriorWeight / (sample_s * sample_s);
  const double a = ones + pull_fixed;
  const double d = xx + pull_sample;
  const double right_a = y + pull_fixed * fixed_s;
  const double right_d = xy + pull_sample * sample_s;
  const double determinant = a * d - x * x;
  fixed_s_ = (right_a * d - right_d * x) / determinant;
  sample_s_ = (right_d * a - right_a * x) / determinant;
  if (fixed_s_ < 0.0) {
    fixed_s_ = 0.0;
    sample_s_ = right_d / d;
  } else if (sample_s_ < 0.0) {
    fixed_s_ = right_a / a;
    sample_s_ = 0.0;
  }
  guess_ = {std::max(fixed_s_, kLeastFixedS), std::max(sample_s_, kLeastSampleS)};
}

CostModel::CostModel(std::vector<std::vector<double>> macs) : macs_(std::move(macs)) {
  if (macs_.empty() || macs_.front().empty()) {
    throw std::invalid_argument("macs: must have one value for each pair of levels");
  }
  for (const auto& row : macs_) {
    if (row.size() != macs_.front().size()) {
      throw std::invalid_argument("macs: rows must have the same length");
    }
    runs_.emplace_back();
    for (const double count : row) runs_.back().emplace_back(kRunFixedS, count * kSecondsPerMac);
  }
}

const LinearFit& CostModel::run(std::size_t level, std::size_t cloud_level) const {
  return runs_.at(level).at(cloud_level);
}

LinearFit CostModel::decode(int encoding, std::size_t level) const {
  const auto found = decodes_.find({encoding, level});
  return found == decodes_.end() ? LinearFit(kDecodeFixedS, kDecodeSampleS) : found->second;
}

double CostModel::run_s(std::size_t level, std::size_t cloud_level, double samples) const {
  const std::lock_guard lock(mutex_);
  return run(level, cloud_level).seconds(samples);
}

std::pair<double, double> CostModel::run_fit(std::size_t level, std::size_t cloud_level) const {
  const std::lock_guard lock(mutex_);
  const LinearFit& fit = run(level, cloud_level);
  return {fit.fixed_s(), fit.sample_s()};
}

double CostModel::sample_s(std::size_t level, std::size_t cloud_level) const {
  const std::lock_guard lock(mutex_);
  return run(level, cloud_level).sample_s();
}

double CostModel::decode_s(int encoding, std::size_t level, double samples) const {
  const std::lock_guard lock(mutex_);
  return decode(encoding, level).seconds(samples);
}

std::uint32_t CostModel::most_samples(int encoding, std::size_t level, std::size_t cloud_level,
                                      double budget_s, std::uint32_t limit) const {
  const std::lock_guard lock(mutex_);
  const LinearFit decoding = decode(encoding, level);
  const LinearFit& running = run(level, cloud_level);
  const double rest_s = budget_s - decoding.fixed_s() - running.fixed_s();
  const double each_s = decoding.sample_s() + running.sample_s();
  if (each_s <= 0.0) return limit;
  if (rest_s <= 0.0) return 0;
  return static_cast<std::uint32_t>(std::min<double>(limit, rest_s / each_s));
}

void CostModel::learn_run(std::size_t level, std::size_t cloud_level, double samples,
                          double seconds) {
  const std::lock_guard lock(mutex_);
  LinearFit& fit = runs_.at(level).at(cloud_level);
  const bool first = !fit.measured();
  fit.learn(samples, seconds);
  if (!first) return;
  const double scale = fit.sample_s() / macs_[level][cloud_level];
  for (std::size_t row = 0; row < macs_.size(); ++row) {
    for (std::size_t place = 0; place < macs_[row].size(); ++place) {
      runs_[row][place].guess(macs_[row][place] * scale);
    }
  }
}

void CostModel::learn_decode(int encoding, std::size_t level, double samples, double seconds) {
  const std::lock_guard lock(mutex_);
  decodes_.try_emplace({encoding, level}, kDecodeFixedS, kDecodeSampleS)
      .first->second.learn(samples, seconds);
}

}  // namespace taper
