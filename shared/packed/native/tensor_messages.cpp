#include "tensor_messages.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "wire.hpp"

namespace taper {
namespace {

constexpr std::size_t kMostAxes = 8;

// Reads int64 values, single or packed.
bool read_shape(WireReader& reader, std::uint32_t type, std::vector<std::uint64_t>& shape) {
  std::uint64_t side = 0;
  if (type == kVarint) {
    if (!reader.varint(side)) return false;
    shape.push_back(side);
    return shape.size() <= kMostAxes;
  }
  std::string_view packed;
  if (type != kBytes || !reader.bytes(packed)) return false;
  WireReader sides(packed);
  while (!sides.done()) {
    if (!sides.varint(side) || shape.size() >= kMostAxes) return false;
    shape.push_back(side);
  }
  return true;
}

bool read_input(std::string_view data, std::vector<std::uint64_t>& shape) {
  WireReader reader(data);
  std::string_view name;
  std::string_view datatype;
  while (!reader.done()) {
    std::uint64_t field = 0;
    std::uint32_t type = 0;
    if (!reader.tag(field, type)) return false;
    const bool read = field == 1   ? type == kBytes && reader.bytes(name)
                      : field == 2 ? type == kBytes && reader.bytes(datatype)
                      : field == 3 ? read_shape(reader, type, shape)
                                   : false;
    if (!read) return false;
  }
  return name == "image" && datatype == "UINT8";
}

bool read_output(std::string_view data, std::vector<bool>& wants_probabilities) {
  WireReader reader(data);
  std::uint64_t field = 0;
  std::uint32_t type = 0;
  std::string_view name;
  if (!reader.tag(field, type) || field != 1 || type != kBytes || !reader.bytes(name)) return false;
  const bool probabilities = name == "probabilities";
  if (!reader.done() || (!probabilities && name != "label")) return false;
  for (const bool one : wants_probabilities) {
    if (one == probabilities) return false;
  }
  wants_probabilities.push_back(probabilities);
  return true;
}

void put_output(std::string& out, bool probabilities, std::size_t samples, std::size_t classes) {
  std::string shape;
  put_varint(shape, samples);
  if (probabilities) put_varint(shape, classes);
  std::string output;
  put_bytes(output, 1, probabilities ? "probabilities" : "label");
  put_bytes(output, 2, probabilities ? "FP32" : "INT64");
  put_bytes(output, 3, shape);
  put_bytes(out, 5, output);
}

// Copies values without conversion: supported machines are little-endian, as are raw contents.
template <class T>
void put_raw(std::string& out, const std::vector<T>& values) {
  const std::size_t size = values.size() * sizeof(T);
  put_bytes(out, 6, {reinterpret_cast<const char*>(values.data()), size});
}

std::vector<std::int64_t> labels_of(const float* logits, std::size_t samples, std::size_t classes) {
  std::vector<std::int64_t> labels(samples);
  for (std::size_t s = 0; s < samples; ++s) {
    const float* row = logits + s * classes;
    labels[s] = std::max_element(row, row + classes) - row;
  }
  return labels;
}

std::vector<float> softmax_of(const float* logits, std::size_t samples, std::size_t classes) {
  std::vector<float> shares(samples * classes);
  for (std::size_t s = 0; s < samples; ++s) {
    const float* row = logits + s * classes;
    float* share = shares.data() + s * classes;
    const float largest = *std::max_element(row, row + classes);
    float sum = 0;
    for (std::size_t c = 0; c < classes; ++c) sum += share[c] = std::exp(row[c] - largest);
    for (std::size_t c = 0; c < classes; ++c) share[c] /= sum;
  }
  return shares;
}

}  // namespace

std::optional<ImageRequest> read_image_request(std::string_view data) {
  ImageRequest request;
  WireReader reader(data);
  int inputs = 0;
  int contents = 0;
  while (!reader.done()) {
    std::uint64_t field = 0;
    std::uint32_t type = 0;
    std::string_view value;
    if (!reader.tag(field, type) || type != kBytes || !reader.bytes(value)) return std::nullopt;
    bool understood = true;
    switch (field) {
      case 1: request.model = value; break;
      case 2: request.version = value; break;
      case 3: request.id = value; break;
      case 5: understood = ++inputs == 1 && read_input(value, request.shape); break;
      case 6: understood = read_output(value, request.wants_probabilities); break;
      case 7: understood = ++contents == 1; request.pixels = value; break;
      default: understood = false;
    }
    if (!understood) return std::nullopt;
  }
  const bool text = is_ascii(request.model) && is_ascii(request.version) && is_ascii(request.id);
  if (inputs != 1 || contents != 1 || !text) return std::nullopt;
  return request;
}

std::string write_image_response(const ImageResponseHead& head,
                                 const std::vector<bool>& wants_probabilities, const float* logits,
                                 std::size_t samples, std::size_t classes) {
  const std::vector<bool> both = {false, true};
  const std::vector<bool>& wanted = wants_probabilities.empty() ? both : wants_probabilities;
  std::string out;
  out.reserve(256 + samples * (8 + 4 * classes));
  put_bytes(out, 1, head.model);
  put_bytes(out, 2, head.version);
  if (!head.id.empty()) put_bytes(out, 3, head.id);
  std::string level;
  put_tag(level, 2, kVarint);  // int64_param, also where it is 0: a choice has no default
  put_varint(level, head.cloud_level);
  std::string parameter;
  put_bytes(parameter, 1, "cloud_level");
  put_bytes(parameter, 2, level);
  put_bytes(out, 4, parameter);
  for (const bool probabilities : wanted) put_output(out, probabilities, samples, classes);
  for (const bool probabilities : wanted) {
    if (probabilities) {
      put_raw(out, softmax_of(logits, samples, classes));
    } else {
      put_raw(out, labels_of(logits, samples, classes));
    }
  }
  return out;
}

}  // namespace taper
