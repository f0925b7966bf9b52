// Jobs on their way through the queue and a compute thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fair_queue.hpp"
#include "model.hpp"

namespace taper {

// A job as scheduling sees it.
struct JobSpec {
  std::shared_ptr<Model> model;
  int level = 0;
  int pinned = kNotPinned;
  int encoding = kRaw;
  std::int64_t samples = 1;
  std::int64_t expected = 1;  // samples that the size of its payload makes likely
  bool sliced = false;        // each slice makes its own features, so that no batch waits for all
  bool native = false;        // computed without Python
};

// What a front keeps with a job that waits.
struct Work {
  virtual ~Work() = default;
};

// A job in the queue.
struct Queued : Item {
  using Item::Item;

  std::shared_ptr<Model> model;
  std::unique_ptr<Work> work;
  double compute_s = 0.0;  // of decoding it and of the batches that it was in
};

using QueuedPtr = std::shared_ptr<Queued>;

// What a slice took, without its share of `run_s`.
struct Measured {
  double decode_s = 0.0;
  bool failed = false;   // its payload is wrong
  bool decoded = false;  // its payload is known to hold all samples
};

// Slices of jobs of one key, and what came of them. Whoever computes it fills in the rest.
struct Batch {
  Key key;
  std::shared_ptr<Model> model;
  std::vector<Slice> slices;
  std::size_t cloud_level = 0;
  double ends_s = 0.0;  // when it is predicted to be done

  std::vector<Measured> measured;  // one for each slice
  std::int64_t computed = 0;       // samples whose payload could be decoded
  double run_s = 0.0;              // without decoding
  bool failed = false;             // could not be computed

  static Queued& job(const Slice& slice) { return static_cast<Queued&>(*slice.item); }

  // Who has work in it, and for how many seconds; who ran at once meanwhile. A dispatcher's.
  bool may_pass(std::string_view client) const;
  void passed(std::string_view client, double seconds);
  std::map<std::string, double, std::less<>> client_s;
  std::map<std::string, double, std::less<>> passed_s;
};

}  // namespace taper
