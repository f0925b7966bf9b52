#include "admission.hpp"

#include <algorithm>
#include <cmath>

namespace taper {
namespace {

constexpr double kShortestPushbackMs = 1;
constexpr double kLongestPushbackMs = 5'000;

}  // namespace

const char* name_of(RejectReason reason) {
  switch (reason) {
    case RejectReason::kLate: return "deadline";
    case RejectReason::kFull: return "queue full";
    case RejectReason::kShare: return "client's share used up";
  }
  return "";
}

std::optional<RejectReason> reject_reason(const QueueState& state, const QueueLimits& limits,
                                          std::int64_t samples, double work_s, double remaining_s) {
  const auto all = static_cast<double>(state.samples);
  const auto own = static_cast<double>(state.client_samples);
  const auto asked = static_cast<double>(samples);
  const auto others = static_cast<double>(state.clients);
  double ahead_s = state.level_delay_s;
  if (state.samples > 0) {
    // Clients take turns, so the request waits for at most as many samples of each other client
    // as its own client then has in the queue.
    ahead_s = std::min(ahead_s, ahead_s * (own + asked) * (others + 1) / (all + asked));
  }
  if (ahead_s + work_s > remaining_s) return RejectReason::kLate;
  if (state.samples == 0) return std::nullopt;
  if (state.samples + samples > limits.samples || state.delay_s > limits.delay_s) {
    return RejectReason::kFull;
  }
  if (state.client_samples == 0) return std::nullopt;
  const double shares = others + 2;
  const double own_delay_s = state.delay_s * own / all + work_s;
  if ((own + asked) * shares > static_cast<double>(limits.samples) ||
      own_delay_s * shares > limits.delay_s) {
    return RejectReason::kShare;
  }
  return std::nullopt;
}

std::uint32_t pushback_ms(const QueueState& state) {
  const double wait_ms = std::ceil(1000 * state.delay_s);
  return static_cast<std::uint32_t>(std::clamp(wait_ms, kShortestPushbackMs, kLongestPushbackMs));
}

}  // namespace taper
