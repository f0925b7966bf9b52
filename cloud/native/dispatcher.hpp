// Decides which jobs run at once, wait or are refused, and which batch runs next and at which
// level. Counts work and charges it to clients, but runs nothing itself.
//
// A cheap job that finds the queue empty runs at once in the thread that received it, because
// handing it to another thread would cost more than its kernel. A cheap request also runs at once
// beside batches of other clients, until its client has had as much work done in this way as each
// of those clients has in its batch. All other jobs wait until a compute thread is free. Clients
// are charged the measured time of their work, after its payload was verified.
//
// Any thread may call any method. `now_s` is the monotonic clock in seconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admission.hpp"
#include "ran_at_once.hpp"
#include "batch.hpp"
#include "counters.hpp"
#include "fair_queue.hpp"
#include "load.hpp"
#include "model.hpp"

namespace taper {

// Limits of the queue and of batches. Times are seconds.
struct DispatcherSettings {
  std::int64_t max_batch = 32;     // samples in one batch, and so the most samples of others that a
                                   // request waits for when it is next in turn
  double max_delay_s = 1e-3;       // a request that waited longer is served before fuller batches
  double objective_s = 0.05;       // time in queue and compute that 99 in 100 requests should keep
  std::int64_t max_queue = 8192;   // most samples that may wait
  std::optional<double> fraction;  // the cloud's fraction if it is fixed, else it follows the load
  std::size_t threads = 1;         // number of compute threads
};

// Why a job is refused, the message for the client, and after how long it may try again.
struct Rejection {
  RejectReason reason;
  std::string message;
  std::uint32_t wait_ms;  // 0 for kLate
};

// The decision on a job; exactly one member is set: the cloud level to run it at now, its entry in
// the queue, or the refusal.
struct Verdict {
  std::optional<std::size_t> at_once;
  QueuedPtr queued;
  std::optional<Rejection> rejected;
};

class Dispatcher {
 public:
  explicit Dispatcher(const DispatcherSettings& settings);

  // Chooses among the fractions of these models from now on.
  void serve(double now_s, const std::vector<std::shared_ptr<Model>>& models);

  // Whether a cheap request of `client` may run at once, and how.
  struct Permit {
    std::size_t cloud_level;
    std::optional<float> load;  // of the hints
    bool crowded;
  };
  std::optional<Permit> may_run_at_once(const std::shared_ptr<Model>& model,
                                        std::string_view client);

  // Counts a job that ran at once. An empty `client` says that nothing else ran or waited.
  void ran_at_once(double now_s, std::string_view client, const RanAtOnce& job);

  // Decides on a job whose level, number of samples and pinned level were validated. If it is
  // queued, `work` is moved into its entry.
  Verdict submit(double now_s, const JobSpec& job, std::string_view client, double remaining_s,
                 std::unique_ptr<Work>* work = nullptr);

  // Takes the next batch for a compute thread, if there is one; only of native jobs if `native`.
  // Jobs that would miss their deadline are removed from the queue and counted as refused.
  struct Next {
    std::shared_ptr<Batch> batch;
    std::vector<QueuedPtr> late;
  };
  Next take(double now_s, bool native);

  // Charges the measured time of a batch to its clients, and counts its verified work as demand.
  void finish(const Batch& batch);

  // Counts an answered job that had waited; returns the seconds that it spent in the queue.
  double answered(double now_s, const Queued& job);

  // Count a refusal: of a job that was in the queue, or of one that never was.
  void refused(double now_s, const QueuedPtr& job, const char* reason);
  void refused(Model& model, const char* reason, double seconds = 0.0);

  // Removes a job whose answer nobody waits for any more; false if it has already left the queue.
  bool withdraw(const QueuedPtr& job);

  // Updates the cloud's level after the queue or the running batches have changed.
  void observe(double now_s);

  // To be called regularly, with the share of time in which the server is busy and the delay with
  // which its event loop wakes.
  void tick(double now_s, double busy, double lag_s);

  // Counts the jobs that ran at once since the last call. Counting each alone would cost as much as
  // running it.
  void account(double now_s);

  // Count what the front in C++ answers itself: a finished request, or looks.
  void count_request(int status, std::size_t received_bytes, std::size_t sent_bytes);
  void count_named(const char* name, std::int64_t count);

  double fraction() const;
  double load(double now_s);
  std::optional<Hints> hints_for(int level) const;
  bool running() const;  // whether a batch is running
  std::pair<std::int64_t, std::int64_t> queued() const;  // requests and samples that wait
  Counters counters() const;

 private:
  using Lock = std::lock_guard<std::mutex>;

  double inline_s() const;
  void note(std::string_view client);
  void settle(double now_s);
  std::vector<double> delays_s(double now_s) const;
  std::optional<Rejection> admit(double now_s, const Key& key, Model& model,
                                 std::string_view client, std::int64_t samples, double work_s,
                                 double remaining_s);
  void update_level(double now_s, bool at_once);
  void count_batch(const Batch& batch, double decode_s);

  mutable std::mutex mutex_;
  QueueLimits limits_;
  FairQueue queue_;
  mutable LoadMonitor load_;
  Counters counters_;
  RanAtOnceCounts at_once_;
  std::vector<std::shared_ptr<Batch>> running_;
  std::uint64_t last_number_ = 0;
  std::string last_client_;
  int company_ = 0;  // ticks left in which no client counts as being alone
};

}  // namespace taper
