#include "look_memory.hpp"

#include <algorithm>

namespace taper {
namespace {

constexpr std::size_t kMost = 64;  // most requests of one stream; the oldest are forgotten first

}  // namespace

void LookMemory::asked(double now_s, std::uint64_t id, std::string_view version, double keep_s) {
  const std::lock_guard lock(mutex_);
  asked_.remove_if([id](const Asked& one) { return one.id == id; });
  asked_.push_back({id, now_s + keep_s, std::string(version), false});
  if (asked_.size() > kMost) asked_.pop_front();
}

LaterLook LookMemory::looked(double now_s, std::uint64_t id, std::string_view version,
                             std::string& first) {
  const std::lock_guard lock(mutex_);
  const auto known = std::find_if(asked_.begin(), asked_.end(),
                                  [id](const Asked& one) { return one.id == id; });
  if (known == asked_.end()) return LaterLook::kUnknown;
  if (known->until_s <= now_s) {
    asked_.erase(known);
    return LaterLook::kUnknown;
  }
  if (known->answered) return LaterLook::kTwice;
  if (known->version != version) {
    first = known->version;
    return LaterLook::kOtherVersion;
  }
  known->answered = true;
  return LaterLook::kKnown;
}

}  // namespace taper
