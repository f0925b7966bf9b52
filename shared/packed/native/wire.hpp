// Reading and writing protobuf's wire format, https://protobuf.dev/programming-guides/encoding
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace taper {

constexpr std::uint32_t kVarint = 0;
constexpr std::uint32_t kFixed64 = 1;
constexpr std::uint32_t kBytes = 2;
constexpr std::uint32_t kFixed32 = 5;

// Reads a message from its beginning. Every method returns false if it cannot read its value.
class WireReader {
 public:
  explicit WireReader(std::string_view data) : data_(data) {}

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

  bool tag(std::uint64_t& field, std::uint32_t& type) {
    std::uint64_t value = 0;
    if (!varint(value) || value > 0xffffffffu || value >> 3 == 0) return false;
    field = value >> 3;
    type = static_cast<std::uint32_t>(value & 7);
    return true;
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

inline bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (c & 0x80) return false;
  }
  return true;
}

inline void put_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

inline void put_tag(std::string& out, std::uint32_t field, std::uint32_t type) {
  out.push_back(static_cast<char>(field << 3 | type));
}

// Writes a number. 0 is the default and is left out.
inline void put_number(std::string& out, std::uint32_t field, std::uint64_t value) {
  if (value == 0) return;
  put_tag(out, field, kVarint);
  put_varint(out, value);
}

inline void put_float(std::string& out, std::uint32_t field, float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  if (bits == 0) return;
  put_tag(out, field, kFixed32);
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<char>(bits >> (8 * i)));
}

inline void put_bytes(std::string& out, std::uint32_t field, std::string_view value) {
  put_tag(out, field, kBytes);
  put_varint(out, value.size());
  out.append(value);
}

}  // namespace taper
