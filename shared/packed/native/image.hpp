// The first layer over a vector type V: uint8 pixels times -1/+1.
//
// A row of a 3x3 kernel has three signs, so it has only eight possible sums. They are computed once
// for each vector of pixels; each output then adds one table entry per row. Internal linkage: see
// conv.hpp.
#pragma once

#include <cstring>

#include "conv.hpp"

namespace taper {
namespace {

// Converts pixels (height, width, channels) to a padded map of integers for each channel.
template <class T>
void widen(const ImageJob& job) {
  constexpr std::size_t kChunk = kMapSlackWords + 1;
  const std::size_t height = job.reached.height;
  const std::size_t width = job.reached.width;
  const std::size_t row = width + 1;
  const std::size_t channels = job.channels;
  const std::size_t size = height * width;
  for (std::size_t channel = 0; channel < channels; ++channel) {
    T* map = static_cast<T*>(job.planes) + channel * job.map_stride;
    for (std::size_t y = 0; y < height; ++y) {
      const std::uint8_t* from = job.pixels + y * width * channels + channel;
      T* to = map + (y + 1) * row + 1;
      std::size_t x = 0;
      if (channels == 1) {  // whole chunks, as far as the image goes
        for (; x < width && y * width + x + kChunk <= size; x += kChunk) {
          for (std::size_t i = 0; i < kChunk; ++i) to[x + i] = from[x + i];
        }
      }
      for (; x < width; ++x) to[x] = from[x * channels];
      to[width] = 0;
    }
    std::memset(map, 0, (row + 1) * sizeof(T));
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

// Rows is the number of pixel rows under a kernel, or 0 if it is known at run time only.
template <class V, class T, int Rows>
inline void image_vector(const ImageJob& job, std::ptrdiff_t p) {
  using R = typename V::R;
  const int rows = Rows > 0 ? Rows : job.channels * 3;
  const auto* table = static_cast<const std::uint8_t*>(job.table);
  const std::uint16_t* pattern = job.patterns;
  T* reached = static_cast<T*>(job.reached.words) + p;
  for (int first = 0; first < job.outputs; first += kWordBits<T>) {
    const int rest = job.outputs - first;
    const int count = rest < kWordBits<T> ? rest : kWordBits<T>;
    R word = V::zero();
    for (int i = 0; i < count; ++i, pattern += rows) {
      R sum = V::load(table + pattern[0] * V::kBytes);
      for (int r = 1; r < rows; ++r) {
        sum = V::template add<T>(sum, V::load(table + pattern[r] * V::kBytes));
      }
      word = V::template set_below<T>(word, sum, job.limits + first + i, bits_of<T>() + i);
    }
    V::store(reached, word);
    reached += job.reached.stride;
  }
}

template <class V, class T>
void image_words(const ImageJob& job) {
  widen<T>(job);
  const std::ptrdiff_t row = job.reached.width + 1;
  const int rows = job.channels * 3;
  auto* table = static_cast<std::uint8_t*>(job.table);
  const std::ptrdiff_t pixels = job.reached.height * row;
  const std::ptrdiff_t part = job.row_step == 1 ? pixels : row;
  std::ptrdiff_t to = 0;
  for (std::ptrdiff_t from = 0; from < pixels; from += job.row_step * part, to += part) {
    for (std::ptrdiff_t p = 0; p < part; p += V::kBytes / static_cast<int>(sizeof(T))) {
      for (int r = 0; r < rows; ++r) {
        const T* map = static_cast<const T*>(job.planes) + (r / 3) * job.map_stride;
        sign_sums<V, T>(map + from + p + (r % 3) * row, table + r * 8 * V::kBytes);
      }
      if (rows == 3) {
        image_vector<V, T, 3>(job, to + p);
      } else if (rows == 9) {
        image_vector<V, T, 9>(job, to + p);
      } else {
        image_vector<V, T, 0>(job, to + p);
      }
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
