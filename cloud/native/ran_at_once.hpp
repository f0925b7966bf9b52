// Counts jobs that ran at once in groups of equal ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "counters.hpp"
#include "load.hpp"
#include "model.hpp"

namespace taper {

// In place of an encoding: the cost of decoding is learned elsewhere.
constexpr int kDecodingCounted = -1;

// A job that ran at once.
struct RanAtOnce {
  std::shared_ptr<Model> model;
  int level = 0;
  int pinned = kNotPinned;
  int encoding = kDecodingCounted;
  std::int64_t samples = 1;
  std::size_t cloud_level = 0;
  double decode_s = 0.0;
  double run_s = 0.0;
};

// For one thread at a time.
class RanAtOnceCounts {
 public:
  // Adds a job. True if so many have been added that `count` should be called.
  bool add(const RanAtOnce& job);

  bool empty() const { return kinds_.empty(); }

  // Counts the jobs in `load` and `counters`, forgets them, and returns their models.
  std::vector<std::shared_ptr<Model>> count(double now_s, LoadMonitor& load, Counters& counters);

 private:
  // Jobs that are equal except for their times. `of` is one of them, with the sums of the times.
  struct Kind {
    RanAtOnce of;
    std::vector<double> seconds;  // time of decoding and running of each job
  };

  std::vector<Kind> kinds_;
  std::size_t jobs_ = 0;
};

}  // namespace taper
