// Jobs that ran at once, counted in groups of one kind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "counters.hpp"
#include "load.hpp"
#include "model.hpp"

namespace taper {

constexpr int kDecodingCounted = -1;  // instead of an encoding: its cost was learned already

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
  // Adds a job; true once so many have been added that they should be counted.
  bool add(const RanAtOnce& job);

  bool empty() const { return kinds_.empty(); }

  // Counts the jobs and forgets them; gives their models.
  std::vector<std::shared_ptr<Model>> count(double now_s, LoadMonitor& load, Counters& counters);

 private:
  // Jobs of one kind, with the sums of their seconds in `of`.
  struct Kind {
    RanAtOnce of;
    std::vector<double> seconds;  // decoding and running of each
  };

  std::vector<Kind> kinds_;
  std::size_t jobs_ = 0;
};

}  // namespace taper
