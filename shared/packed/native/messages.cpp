#include "messages.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

namespace taper {
namespace {

// Wire types of protobuf, https://protobuf.dev/programming-guides/encoding
constexpr std::uint32_t kVarint = 0;
constexpr std::uint32_t kFixed64 = 1;
constexpr std::uint32_t kBytes = 2;
constexpr std::uint32_t kFixed32 = 5;

class Reader {
 public:
  explicit Reader(std::string_view data) : data_(data) {}

  bool done() const { return at_ == data_.size(); }

  bool varint(std::uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 70 && at_ < data_.size(); shift += 7) {
      const auto byte = static_cast<std::uint8_t>(data_[at_++]);
      if (shift == 63 && byte > 1) return false;
      value |= std::uint64_t(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool bytes(std::string_view& value) {
    std::uint64_t size = 0;
    if (!varint(size) || size > data_.size() - at_) return false;
    value = data_.substr(at_, static_cast<std::size_t>(size));
    at_ += static_cast<std::size_t>(size);
    return true;
  }

  bool skip(std::size_t size) {
    if (size > data_.size() - at_) return false;
    at_ += size;
    return true;
  }

 private:
  std::string_view data_;
  std::size_t at_ = 0;
};

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

// Puts a varint field where it belongs; fields that are unknown are passed over.
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

bool set_bytes(InferRequest& request, std::uint64_t field, std::string_view value) {
  if (field == 2) request.model = value;
  if (field == 3) request.version = value;
  if (field == 7) request.payload = value;
  return (field != 2 && field != 3) || is_ascii(value);
}

// Whether the field has the wire type that the message gives it.
bool is_typed(std::uint64_t field, std::uint32_t type) {
  const bool bytes = field == 2 || field == 3 || field == 7;
  const bool known = field >= 1 && field <= 9;
  return !known || type == (bytes ? kBytes : kVarint);
}

void put_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

void put_tag(std::string& out, std::uint32_t field, std::uint32_t type) {
  out.push_back(static_cast<char>(field << 3 | type));
}

void put_number(std::string& out, std::uint32_t field, std::uint64_t value) {
  if (value == 0) return;
  put_tag(out, field, kVarint);
  put_varint(out, value);
}

void put_float(std::string& out, std::uint32_t field, float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  if (bits == 0) return;
  put_tag(out, field, kFixed32);
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<char>(bits >> (8 * i)));
}

void put_bytes(std::string& out, std::uint32_t field, const std::string& value) {
  put_tag(out, field, kBytes);
  put_varint(out, value.size());
  out += value;
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

}  // namespace

std::optional<InferRequest> read_request(std::string_view data) {
  InferRequest request;
  Reader reader(data);
  while (!reader.done()) {
    std::uint64_t tag = 0;
    std::uint64_t number = 0;
    std::string_view bytes;
    if (!reader.varint(tag) || tag > 0xffffffffu || tag >> 3 == 0) return std::nullopt;
    const std::uint64_t field = tag >> 3;
    const auto type = static_cast<std::uint32_t>(tag & 7);
    if (!is_typed(field, type)) return std::nullopt;
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
  return out;
}

}  // namespace taper
