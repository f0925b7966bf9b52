// Counts looks, and refuses later looks that cannot be valid.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dispatcher.hpp"
#include "messages.hpp"
#include "stream_state.hpp"

namespace taper {

// Records the looks of an answered request in its stream (null: a single call, which remembers
// nothing). `asked`: number of its samples that the server asks to see again. Returns why the look
// is refused, or nothing.
std::optional<std::string> note_looks(Dispatcher& dispatcher, double now_s,
                                      const InferRequest& request, std::string_view version,
                                      std::uint32_t asked, StreamState* stream);

}  // namespace taper
