#include "messages.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "wire.hpp"

namespace taper {
namespace {

// Stores a varint field in its member; unknown fields are ignored.
void set_number(InferRequest& request, std::uint64_t field, std::uint64_t value) {
  const auto number = static_cast<std::uint32_t>(value);
  switch (field) {
    case 1: request.id = value; break;
    case 4: request.level = number; break;
    case 5: request.encoding = number; break;
    case 6: request.samples = number; break;
    case 8: request.cloud_level = number; break;
    case 9: request.top_k = number; break;
    default: break;
  }
}

// Parses a serialised Looks into `looks`. If it occurs twice the two are merged, as protobuf does.
bool read_looks(Looks& looks, std::string_view data) {
  WireReader reader(data);
  while (!reader.done()) {
    std::uint64_t field = 0;
    std::uint64_t number = 0;
    std::uint32_t type = 0;
    // Fields that are unknown here are left to protobuf's library.
    if (!reader.tag(field, type) || type != kVarint || !reader.varint(number)) return false;
    switch (field) {
      case 1: looks.earlier = static_cast<std::uint32_t>(number); break;
      case 2: looks.next_level = static_cast<std::uint32_t>(number); break;
      case 3: looks.ask_below = number; break;
      default: return false;
    }
  }
  return true;
}

bool set_bytes(InferRequest& request, std::uint64_t field, std::string_view value) {
  if (field == 10) {
    if (!request.looks) request.looks.emplace();
    return read_looks(*request.looks, value);
  }
  if (field == 2) request.model = value;
  if (field == 3) request.version = value;
  if (field == 7) request.payload = value;
  return (field != 2 && field != 3) || is_ascii(value);
}

// Whether the field has the wire type that the message defines for it.
bool is_typed(std::uint64_t field, std::uint32_t type) {
  const bool bytes = field == 2 || field == 3 || field == 7 || field == 10;
  const bool known = field >= 1 && field <= 10;
  return !known || type == (bytes ? kBytes : kVarint);
}

// The most probable labels of one sample as Candidate messages.
void put_candidates(std::string& out, const float* logits, std::size_t classes, std::size_t count) {
  std::vector<std::uint32_t> order(classes);
  std::iota(order.begin(), order.end(), 0u);
  const auto better = [logits](std::uint32_t a, std::uint32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    better);
  const float largest = logits[order[0]];
  float sum = 0;
  for (std::size_t c = 0; c < classes; ++c) sum += std::exp(logits[c] - largest);
  std::string candidate;
  for (std::size_t i = 0; i < count; ++i) {
    candidate.clear();
    put_number(candidate, 1, order[i]);
    put_float(candidate, 2, std::exp(logits[order[i]] - largest) / sum);
    put_bytes(out, 2, candidate);
  }
}

void put_more(std::string& out, const More& more) {
  std::string places;
  for (const std::uint32_t place : more.samples) put_varint(places, place);
  std::string message;
  put_number(message, 1, more.level);
  put_number(message, 2, more.keep_ms);
  if (!places.empty()) put_bytes(message, 3, places);
  put_bytes(out, 8, message);
}

}  // namespace

std::uint64_t margin_of(const float* logits, std::size_t classes) {
  if (classes < 2) return std::numeric_limits<std::uint64_t>::max();
  float best = std::max(logits[0], logits[1]);
  float next = std::min(logits[0], logits[1]);
  for (std::size_t c = 2; c < classes; ++c) {
    next = std::max(next, std::min(best, logits[c]));
    best = std::max(best, logits[c]);
  }
  const double margin = (static_cast<double>(best) - static_cast<double>(next)) * (1 << 20);
  if (!(margin < 0x1p62)) return std::numeric_limits<std::uint64_t>::max();
  return static_cast<std::uint64_t>(margin);
}

std::optional<InferRequest> read_request(std::string_view data) {
  InferRequest request;
  WireReader reader(data);
  while (!reader.done()) {
    std::uint64_t field = 0;
    std::uint64_t number = 0;
    std::uint32_t type = 0;
    std::string_view bytes;
    if (!reader.tag(field, type) || !is_typed(field, type)) return std::nullopt;
    switch (type) {
      case kVarint:
        if (!reader.varint(number)) return std::nullopt;
        set_number(request, field, number);
        break;
      case kBytes:
        if (!reader.bytes(bytes) || !set_bytes(request, field, bytes)) return std::nullopt;
        break;
      case kFixed64:
        if (!reader.skip(8)) return std::nullopt;
        break;
      case kFixed32:
        if (!reader.skip(4)) return std::nullopt;
        break;
      default: return std::nullopt;
    }
  }
  return request;
}

std::string write_response(const ResponseHead& head, const float* logits, std::size_t samples,
                           std::size_t classes, std::size_t top_k) {
  std::string out;
  out.reserve(32 + samples * (4 + 8 * std::min(top_k, classes)));
  put_number(out, 1, head.id);
  std::string result;
  for (std::size_t s = 0; s < samples; ++s) {
    const float* row = logits + s * classes;
    result.clear();
    put_number(result, 1, static_cast<std::uint64_t>(std::max_element(row, row + classes) - row));
    if (top_k > 0) put_candidates(result, row, classes, std::min(top_k, classes));
    put_bytes(out, 2, result);
  }
  put_number(out, 3, head.cloud_level);
  put_number(out, 4, head.queue_us);
  put_number(out, 5, head.compute_us);
  if (head.load) {
    std::string hints;
    put_float(hints, 1, *head.load);
    if (head.suggested_level) {
      put_tag(hints, 2, kVarint);
      put_varint(hints, *head.suggested_level);
    }
    put_bytes(out, 7, hints);
  }
  if (head.more) put_more(out, *head.more);
  return out;
}

}  // namespace taper
