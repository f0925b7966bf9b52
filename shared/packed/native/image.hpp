// The first layer over a vector type V: uint8 pixels times -1/+1.
//
// A row of a 3x3 kernel has three signs, so only eight sums of it exist. They are computed once for
// each vector of pixels; an output is then one table entry for each row. Internal linkage: see conv.hpp.
#pragma once

#include <cstring>

#include "conv.hpp"

namespace taper {
namespace {

// Pixels (height, width, channels) to a padded map of integers for each channel.
template <class T>
void widen(const ImageJob& job) {
  const std::ptrdiff_t height = job.reached.height;
  const std::ptrdiff_t width = job.reached.width;
  const std::ptrdiff_t row = width + 1;
  for (int channel = 0; channel < job.channels; ++channel) {
    T* map = static_cast<T*>(job.planes) + channel * job.map_stride;
    std::memset(map, 0, (row + 1) * sizeof(T));
    for (std::ptrdiff_t y = 0; y < height; ++y) {
      const std::uint8_t* from = job.pixels + y * width * job.channels + channel;
      T* to = map + (y + 1) * row + 1;
      if (job.channels == 1) {
        for (std::ptrdiff_t x = 0; x < width; ++x) to[x] = from[x];
      } else {
        for (std::ptrdiff_t x = 0; x < width; ++x) to[x] = from[x * job.channels];
      }
      to[width] = 0;
    }
    std::memset(map + (height + 1) * row, 0, (row + 1) * sizeof(T));
  }
}

// The eight sums of three pixels; bit i of the pattern gives pixel i a plus.
template <class V, class T>
inline void sign_sums(const T* pixels, std::uint8_t* table) {
  using R = typename V::R;
  const R a = V::load(pixels);
  const R b = V::load(pixels + 1);
  const R c = V::load(pixels + 2);
  const R plus = V::template add<T>(a, b);
  const R minus = V::template subtract<T>(a, b);
  const R patterns[4] = {
      V::template add<T>(plus, c),        // 7: + + +
      V::template subtract<T>(c, minus),  // 6: - + +
      V::template add<T>(minus, c),       // 5: + - +
      V::template subtract<T>(c, plus),   // 4: - - +
  };
  for (int i = 0; i < 4; ++i) {
    V::store(table + (7 - i) * V::kBytes, patterns[i]);
    V::store(table + i * V::kBytes, V::template subtract<T>(V::zero(), patterns[i]));
  }
}

template <class V, class T>
void image_words(const ImageJob& job) {
  using R = typename V::R;
  widen<T>(job);
  const std::ptrdiff_t row = job.reached.width + 1;
  const std::ptrdiff_t positions = std::ptrdiff_t{job.reached.height} * row;
  const int rows = job.channels * 3;
  auto* table = static_cast<std::uint8_t*>(job.table);
  for (std::ptrdiff_t p = 0; p < positions; p += V::kBytes / static_cast<int>(sizeof(T))) {
    for (int r = 0; r < rows; ++r) {
      const T* map = static_cast<const T*>(job.planes) + (r / 3) * job.map_stride;
      sign_sums<V, T>(map + p + (r % 3) * row, table + r * 8 * V::kBytes);
    }
    const std::uint8_t* pattern = job.patterns;
    T* reached = static_cast<T*>(job.reached.words) + p;
    for (int first = 0; first < job.outputs; first += kWordBits<T>) {
      const int rest = job.outputs - first;
      const int count = rest < kWordBits<T> ? rest : kWordBits<T>;
      R word = V::zero();
      for (int i = 0; i < count; ++i) {
        R sum = V::load(table + *pattern++ * V::kBytes);
        const std::uint8_t* entry = table;
        for (int r = 1; r < rows; ++r) {
          entry += 8 * V::kBytes;
          sum = V::template add<T>(sum, V::load(entry + *pattern++ * V::kBytes));
        }
        word = V::template set_below<T>(word, sum, job.limits + first + i, bits_of<T>() + i);
      }
      V::store(reached, word);
      reached += job.reached.stride;
    }
  }
}

template <class V>
void run_image(const ImageJob& job) {
  if (job.reached.lane == Lane::k16) {
    image_words<V, std::uint16_t>(job);
  } else {
    image_words<V, std::uint32_t>(job);
  }
}

}  // namespace
}  // namespace taper
