// Decides what runs at once, waits or is refused, which batch is next and at which level; and keeps the
// account of work. Runs nothing itself.
//
// A job that is cheap and finds nothing waiting runs at once where it came, as the hop to another
// thread would cost more than its kernel. So does a cheap request beside batches of other clients, up
// to as much work as each of those has in its batch. All others wait until a compute thread is free.
// Work is charged by what it took, once its payload has been verified.
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

// Limits. Times are seconds.
struct DispatcherSettings {
  std::int64_t max_batch = 32;     // samples that run together, and the most that a request waits for
                                   // of others' while it is the next in turn
  double max_delay_s = 1e-3;       // after this long a batch goes before fuller ones
  double objective_s = 0.05;       // of queue and compute, for 99 in 100 requests
  std::int64_t max_queue = 8192;   // samples that may wait
  std::optional<double> fraction;  // the cloud's, if it is fixed
  std::size_t threads = 1;         // that compute batches
};

// A refusal: why, what to say, and when to try again.
struct Rejection {
  RejectReason reason;
  std::string message;
  std::uint32_t wait_ms;  // 0 for kLate
};

// What becomes of a job: a level to run at now, a place in the queue, or a refusal.
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

  // Counts a job that ran at once. `client` is empty if nothing else ran or waited.
  void ran_at_once(double now_s, std::string_view client, const RanAtOnce& job);

  // Says what becomes of a job whose level, samples and pinned level are allowed. A job that waits
  // takes `work` with it.
  Verdict submit(double now_s, const JobSpec& job, std::string_view client, double remaining_s,
                 std::unique_ptr<Work>* work = nullptr);

  // The next batch for a compute thread, if there is one. Those that would be late are taken from the
  // queue and counted as refused.
  struct Next {
    std::shared_ptr<Batch> batch;
    std::vector<QueuedPtr> late;
  };
  Next take(double now_s, bool native);

  // Charges a batch to its clients, by its measurements, and counts verified work as asked for.
  void finish(const Batch& batch);

  // Counts an answered job that had waited; gives the seconds of it.
  double answered(double now_s, const Queued& job);

  // Counts a job that was refused after it had waited, or before.
  void refused(double now_s, const QueuedPtr& job, const char* reason);
  void refused(Model& model, const char* reason, double seconds = 0.0);

  // Removes a job that nobody waits for; false if it has left the queue.
  bool withdraw(const QueuedPtr& job);

  // Updates the level after something has changed.
  void observe(double now_s);

  // Call regularly with the share of time that the server is at work, and its delay in waking.
  void tick(double now_s, double busy, double lag_s);

  // Counts the jobs that ran at once; one by one that would cost as much as they.
  void account(double now_s);

  // Counts what a front in C++ does itself: a finished request, looks.
  void count_request(int status, std::size_t received_bytes, std::size_t sent_bytes);
  void count_named(const char* name, std::int64_t count);

  double fraction() const;
  double load(double now_s);
  std::optional<Hints> hints_for(int level) const;
  bool running() const;  // whether a batch is
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
  int company_ = 0;  // ticks for which nobody counts as alone
};

}  // namespace taper
