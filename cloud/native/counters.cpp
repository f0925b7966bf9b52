#include "counters.hpp"

#include <algorithm>

namespace taper {
namespace {

const std::vector<double> kSeconds = {25e-6, 50e-6, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01,
                                      0.02,  0.05,  0.1,  0.2,  0.5,  1.0,  2.0,  5.0};
const std::vector<double> kSamples = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1, 0) {}

void Histogram::add(double value, std::int64_t times) {
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  counts_[static_cast<std::size_t>(bound - bounds_.begin())] += times;
  total_ += value * static_cast<double>(times);
}

Counters::Counters()
    : queue_s(kSeconds), compute_s(kSeconds), latency_s(kSeconds), batch_samples(kSamples) {}

}  // namespace taper
