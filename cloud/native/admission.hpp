// Admission decides which requests may wait. Those that would miss their deadline are refused at
// once.
//
// The queue is divided into equal shares, one for each waiting client and one that is kept free for
// a newcomer. A client that waits alone may therefore fill half of the queue.
#pragma once

#include <cstdint>
#include <optional>

namespace taper {

// Why a request is refused: it would be late, the queue is full, or its client's share is.
enum class RejectReason { kLate, kFull, kShare };

// The name of a reason in metrics.
const char* name_of(RejectReason reason);

// The largest queue: in samples, and in seconds of work at the narrowest level.
struct QueueLimits {
  std::int64_t samples;
  double delay_s;
};

// The state of the queue when a request arrives.
struct QueueState {
  std::int64_t samples;         // of all clients
  std::int64_t client_samples;  // of the client whose request arrives
  std::int64_t clients;         // waiting clients, without that one
  double delay_s;               // seconds of work at the narrowest level
  double level_delay_s;         // seconds of work at the level in use
};

// Why a request of `samples` is refused; nothing if it may wait. `work_s` is its predicted time at
// the level in use, `remaining_s` the time to its deadline, infinite if it has none. If the queue
// is empty, a request is refused only if it would be late.
std::optional<RejectReason> reject_reason(const QueueState& state, const QueueLimits& limits,
                                          std::int64_t samples, double work_s, double remaining_s);

// Milliseconds after which a refused client may try again: until all that waits now is done.
std::uint32_t pushback_ms(const QueueState& state);

}  // namespace taper
