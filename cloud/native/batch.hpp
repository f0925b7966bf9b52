// A job, its entry in the queue, and the batch that it runs in.
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

// The properties of a job that scheduling needs.
struct JobSpec {
  std::shared_ptr<Model> model;
  int level = 0;
  int pinned = kNotPinned;
  int encoding = kRaw;
  std::int64_t samples = 1;
  std::int64_t expected = 1;  // number of samples estimated from the size of the payload
  bool sliced = false;        // decoded slice by slice, so that no batch waits for the whole payload
  bool native = false;        // computed without Python
};

// Base of the data that a front keeps with a waiting job.
struct Work {
  virtual ~Work() = default;
};

// A job in the queue.
struct Queued : Item {
  using Item::Item;

  std::shared_ptr<Model> model;
  std::unique_ptr<Work> work;
  double compute_s = 0.0;  // time of decoding it and of the batches that it was in
};

using QueuedPtr = std::shared_ptr<Queued>;

// The measurements of one slice, without its share of the batch's `run_s`.
struct Measured {
  double decode_s = 0.0;
  bool failed = false;   // the payload is invalid
  bool decoded = false;  // the payload was verified to hold all samples
};

// Slices of jobs of one key that run together. The first five members are set by the dispatcher,
// the measurements by the thread that computes the batch.
struct Batch {
  Key key;
  std::shared_ptr<Model> model;
  std::vector<Slice> slices;
  std::size_t cloud_level = 0;
  double ends_s = 0.0;  // predicted time of its end

  std::vector<Measured> measured;  // one for each slice
  std::int64_t computed = 0;       // samples whose payload could be decoded
  double run_s = 0.0;              // time of computing, without decoding
  bool failed = false;             // computing it raised an error

  static Queued& job(const Slice& slice) { return static_cast<Queued&>(*slice.item); }

  // For the dispatcher: seconds of work in this batch by client, and seconds of work that ran at
  // once while this batch was running, by client. `may_pass`: whether `client` may run more at
  // once.
  bool may_pass(std::string_view client) const;
  void passed(std::string_view client, double seconds);
  std::map<std::string, double, std::less<>> client_s;
  std::map<std::string, double, std::less<>> passed_s;
};

}  // namespace taper
