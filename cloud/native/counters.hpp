// The counts and histograms of a scheduler, as plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace taper {

// counts[i] is the number of values above bounds[i - 1] and at most bounds[i]; the last count is
// that of the values above all bounds.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);

  void add(double value, std::int64_t times = 1);

  const std::vector<double>& bounds() const { return bounds_; }
  const std::vector<std::int64_t>& counts() const { return counts_; }
  double total() const { return total_; }

 private:
  std::vector<double> bounds_;
  std::vector<std::int64_t> counts_;
  double total_ = 0.0;
};

struct Counters {
  Counters();

  std::map<std::pair<std::string, double>, std::int64_t> samples;  // by model and fraction
  std::map<std::string, std::int64_t> refusals;                    // by reason
  std::map<int, std::int64_t> requests;                            // of the C++ front, by status
  std::map<std::string, std::int64_t> named;                       // of the C++ front: bytes, looks
  Histogram queue_s;
  Histogram compute_s;
  Histogram latency_s;
  Histogram batch_samples;
};

}  // namespace taper
