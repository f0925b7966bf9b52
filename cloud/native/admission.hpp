// Admission: which requests may wait. Those that would be late are refused at once.
//
// A client may hold an equal share of the queue among the clients that wait, with one share kept free
// for a newcomer. A client alone may therefore fill half of the queue.
#pragma once

#include <cstdint>
#include <optional>

namespace taper {

// Why a request may not wait.
enum class RejectReason { kLate, kFull, kShare };

// The name of a reason in metrics.
const char* name_of(RejectReason reason);

// The most that may wait: samples, and seconds of work at the narrowest level.
struct QueueLimits {
  std::int64_t samples;
  double delay_s;
};

// The queue as a new request finds it.
struct QueueState {
  std::int64_t samples;         // of all clients
  std::int64_t client_samples;  // of the client that asks
  std::int64_t clients;         // that wait, without the one that asks
  double delay_s;               // seconds of work at the narrowest level
  double level_delay_s;         // seconds of work at the level that is in use
};

// Why a request of `samples` may not wait, or nothing. `work_s` is its predicted time at the level
// that is in use, `remaining_s` the time to its deadline, infinite if it has none. In an empty queue
// only the deadline can refuse it.
std::optional<RejectReason> reject_reason(const QueueState& state, const QueueLimits& limits,
                                          std::int64_t samples, double work_s, double remaining_s);

// Milliseconds until what waits now is done, for a refused client to wait.
std::uint32_t pushback_ms(const QueueState& state);

}  // namespace taper
