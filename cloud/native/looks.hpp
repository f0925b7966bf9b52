// Counting looks, and refusing later ones that cannot be right.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dispatcher.hpp"
#include "messages.hpp"
#include "stream_state.hpp"

namespace taper {

// Takes note of the looks of an answered request, of which `asked` samples are wanted again, in its
// stream (null: a single call, which remembers nothing). Says why a later look is wrong.
std::optional<std::string> note_looks(Dispatcher& dispatcher, double now_s,
                                      const InferRequest& request, std::string_view version,
                                      std::uint32_t asked, StreamState* stream);

}  // namespace taper
