#include "looks.hpp"

namespace taper {
namespace {

constexpr double kKeepS = 10.0;  // how long a stream remembers that it asked for another look
constexpr std::size_t kShownVersion = 16;

std::string shown(std::string_view version) { return std::string(version.substr(0, kShownVersion)); }

}  // namespace

std::optional<std::string> note_looks(Dispatcher& dispatcher, double now_s,
                                      const InferRequest& request, std::string_view version,
                                      std::uint32_t asked, StreamState* stream) {
  if (request.looks->earlier == 0) {
    if (asked == 0) return std::nullopt;
    dispatcher.count_named("looks_asked", asked);
    if (stream != nullptr) stream->looks.asked(now_s, request.id, version, kKeepS);
    return std::nullopt;
  }
  std::string first;
  const LaterLook found = stream == nullptr
                              ? LaterLook::kUnknown
                              : stream->looks.looked(now_s, request.id, version, first);
  switch (found) {
    case LaterLook::kKnown: dispatcher.count_named("second_looks", 1); return std::nullopt;
    case LaterLook::kUnknown: dispatcher.count_named("second_looks_unknown", 1); return std::nullopt;
    case LaterLook::kTwice:
      dispatcher.count_named("second_looks_refused", 1);
      return "looks: request " + std::to_string(request.id) + " has had its second look";
    case LaterLook::kOtherVersion: break;
  }
  dispatcher.count_named("second_looks_refused", 1);
  return "looks: the first look of request " + std::to_string(request.id) + " was of version " +
         shown(first) + ", this one is of " + shown(version);
}

}  // namespace taper
