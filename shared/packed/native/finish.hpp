// The steps between layers: max pooling of bits, flips, conversion to the words that the next layer
// reads, and conversion from and to the packed interchange form.
//
// Max pooling of sums before a threshold is the same as OR-ing the bits after it. Flips come last.
// Internal linkage: see conv.hpp.
#pragma once

#include <cstring>

#include "conv.hpp"

namespace taper {
namespace {

// Calls `part` with a word of the type that a lane's words have.
template <class Part>
inline void with_word(Lane lane, const Part& part) {
  switch (lane) {
    case Lane::k8:
      return part(std::uint8_t{});
    case Lane::k16:
      return part(std::uint16_t{});
    case Lane::k32:
      return part(std::uint32_t{});
  }
}

// First pixel's word of a map, words from row to row, and the zero words around and after the
// pixels.
struct Rows {
  std::size_t first;
  std::size_t step;
};

inline Rows rows_of(const Map& map) {
  const std::size_t width = map.width;
  return map.padded ? Rows{width + 2, width + 1} : Rows{0, width};
}

template <class T>
void clear_margin(const Map& map) {
  const std::size_t row = map.width + 1;
  const std::size_t height = map.height;
  for (int plane = 0; plane < map.planes; ++plane) {
    T* words = static_cast<T*>(map.words) + plane * map.stride;
    if (map.padded) {
      std::memset(words, 0, (row + 1) * sizeof(T));
      for (std::size_t y = 2; y <= height; ++y) words[y * row] = 0;
      std::memset(words + (height + 1) * row, 0, (row + 1) * sizeof(T));
    } else {
      const std::size_t pixels = height * map.width;
      std::memset(words + pixels, 0, (map.stride - pixels) * sizeof(T));
    }
  }
}

// Rows are processed in whole chunks, so that loops have a fixed length. Words that a chunk writes
// past the end of its row are overwritten by the next row or by clear_margin; after the last row,
// map_stride leaves room for them.
constexpr std::size_t kChunk = kMapSlackWords + 1;

template <class T>
struct Twice;
template <>
struct Twice<std::uint8_t> {
  using Type = std::uint16_t;
};
template <>
struct Twice<std::uint16_t> {
  using Type = std::uint32_t;
};
template <>
struct Twice<std::uint32_t> {
  using Type = std::uint64_t;
};

// The OR of each side x side window, for one row of windows that starts at `top`.
template <class T>
void pool_row(const T* top, std::size_t row, int side, std::size_t width, T* out) {
  if (side == 2) {
    using Pair = typename Twice<T>::Type;
    for (std::size_t x = 0; x < width; x += kChunk) {
      Pair above[kChunk];
      Pair below[kChunk];
      std::memcpy(above, top + 2 * x, sizeof above);
      std::memcpy(below, top + row + 2 * x, sizeof below);
      for (std::size_t i = 0; i < kChunk; ++i) {
        const Pair both = above[i] | below[i];
        out[x + i] = static_cast<T>(both | both >> kWordBits<T>);
      }
    }
    return;
  }
  for (std::size_t x = 0; x < width; ++x) {
    T bits = 0;
    for (int dy = 0; dy < side; ++dy) {
      for (int dx = 0; dx < side; ++dx) bits = static_cast<T>(bits | top[dy * row + x * side + dx]);
    }
    out[x] = bits;
  }
}

// Every `stride`th word of a row.
template <class T>
void thin_row(const T* row, int stride, std::size_t width, T* out) {
  for (std::size_t x = 0; x < width; ++x) out[x] = row[x * stride];
}

// Rows follow each other without gaps: what a chunk writes past the end of one is overwritten by the
// next row, or by the next sample, or lies in the slack after the last one.
template <class T>
void gather_columns(const ColumnsJob& job) {
  const std::size_t row = rows_of(job.input).step;
  const std::size_t height = job.height;
  const std::size_t width = job.width;
  T* tap = static_cast<T*>(job.columns);
  for (int plane = 0; plane < job.input.planes; ++plane) {
    const T* words = static_cast<const T*>(job.input.words) + plane * job.input.stride;
    for (int t = 0; t < kTaps; ++t, tap += job.step) {
      const T* from = words + (t / 3) * row + t % 3;
      for (std::size_t y = 0; y < height; ++y, from += job.stride * row) {
        T* to = tap + y * width;
        if (job.stride > 1) {
          thin_row(from, job.stride, width, to);
          continue;
        }
        for (std::size_t x = 0; x < width; x += kChunk) {
          std::memcpy(to + x, from + x, kChunk * sizeof(T));
        }
      }
    }
  }
}

inline void run_columns(const ColumnsJob& job) {
  with_word(job.input.lane, [&](auto word) { gather_columns<decltype(word)>(job); });
}

// One row of words of `To` from rows of words of `From`, `stride` apart, `parts` of them left.
template <class From, class To>
inline void convert_row(const From* from, std::size_t stride, int parts, int shift, To flip,
                        std::size_t width, To* to) {
  for (std::size_t x = 0; x < width; x += kChunk) {
    To words[kChunk];
    for (std::size_t i = 0; i < kChunk; ++i) {
      words[i] = static_cast<To>(static_cast<To>(from[x + i] >> shift) ^ flip);
    }
    for (int part = 1; part < parts; ++part) {
      const From* more = from + part * stride + x;
      const int up = part * kWordBits<From>;
      for (std::size_t i = 0; i < kChunk; ++i) {
        words[i] = static_cast<To>(words[i] ^ static_cast<To>(static_cast<To>(more[i]) << up));
      }
    }
    std::memcpy(to + x, words, sizeof words);
  }
}

template <class From, class To>
void finish_words(const FinishJob& job) {
  constexpr int kNarrower = kWordBits<From> > kWordBits<To> ? kWordBits<From> / kWordBits<To> : 1;
  constexpr int kWider = kWordBits<To> > kWordBits<From> ? kWordBits<To> / kWordBits<From> : 1;
  const std::size_t row = rows_of(job.reached).step;
  const int groups = job.reached.planes;
  const Rows rows = rows_of(job.output);
  std::size_t height = job.output.height;
  std::size_t width = job.output.width;
  const bool every = job.pool == 1 && job.stride == 1;
  if (every && job.reached.padded && job.output.padded) {  // the same rows: take them as one
    width = height * row - 1;
    height = 1;
  }
  for (std::size_t y = 0; y < height; ++y) {
    const From* from = static_cast<const From*>(job.reached.words) + y * job.pool * row;
    std::size_t stride = job.reached.stride;
    if (!every) {
      From* pooled = static_cast<From*>(job.rows);
      const std::size_t pooled_stride = width + kChunk;
      for (int group = 0; group < groups; ++group) {
        const From* top = from + group * stride;
        From* out = pooled + group * pooled_stride;
        if (job.pool > 1) {
          pool_row(top, row, job.pool, width, out);
        } else {
          thin_row(top, job.stride, width, out);
        }
      }
      from = pooled;
      stride = pooled_stride;
    }
    To* to = static_cast<To*>(job.output.words) + rows.first + y * rows.step;
    for (int plane = 0; plane < job.output.planes; ++plane, to += job.output.stride) {
      const int group = plane / kNarrower * kWider;
      const int parts = groups - group < kWider ? groups - group : kWider;
      const int shift = plane % kNarrower * kWordBits<To>;
      convert_row(from + group * stride, stride, parts, shift, static_cast<To>(job.flips[plane]),
                  width, to);
    }
  }
  clear_margin<To>(job.output);
}

inline void run_finish(const FinishJob& job) {
  with_word(job.reached.lane, [&](auto from) {
    with_word(job.output.lane,
              [&](auto to) { finish_words<decltype(from), decltype(to)>(job); });
  });
}

// Converts the words of a map to bits without gaps: all channels of a pixel, then the next pixel.
template <class T>
void pack_words(const PackJob& job) {
  const T* words = static_cast<const T*>(job.input.words);
  const std::size_t pixels = static_cast<std::size_t>(job.input.height) * job.input.width;
  if (job.input.planes == 1 && job.channels == kWordBits<T>) {
    std::memcpy(job.bytes, words, job.size);
    return;
  }
  std::uint64_t bits = 0;
  int filled = 0;
  std::uint8_t* out = job.bytes;
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    int left = job.channels;
    for (int plane = 0; plane < job.input.planes; ++plane, left -= kWordBits<T>) {
      bits |= std::uint64_t{words[plane * job.input.stride + pixel]} << filled;
      filled += left < kWordBits<T> ? left : kWordBits<T>;
      if (filled >= 32) {
        std::memcpy(out, &bits, 4);
        out += 4;
        bits >>= 32;
        filled -= 32;
      }
    }
  }
  const std::size_t rest = job.bytes + job.size - out;  // at most 4, by the definition of size
  std::memcpy(out, &bits, rest);
}

inline void run_pack(const PackJob& job) {
  with_word(job.input.lane, [&](auto word) { pack_words<decltype(word)>(job); });
}

// The 32 bits from bit `at` on, with zeros after the end.
inline std::uint32_t bits_at(const std::uint8_t* bytes, std::size_t size, std::size_t at) {
  const std::size_t byte = at / 8;
  std::uint64_t bits = 0;
  if (byte + 8 <= size) {
    std::memcpy(&bits, bytes + byte, 8);
  } else if (byte < size) {
    std::memcpy(&bits, bytes + byte, size - byte);
  }
  return static_cast<std::uint32_t>(bits >> (at % 8));
}

template <class T>
void unpack_words(const UnpackJob& job) {
  const Map& map = job.output;
  const std::size_t width = map.width;
  const Rows rows = rows_of(map);
  clear_margin<T>(map);
  for (int plane = 0; plane < map.planes; ++plane) {
    T* words = static_cast<T*>(map.words) + plane * map.stride + rows.first;
    const int left = job.channels - plane * kWordBits<T>;
    const std::uint32_t mask = left < 32 ? (1u << left) - 1 : ~0u;
    std::size_t at = static_cast<std::size_t>(plane) * kWordBits<T>;
    for (std::size_t y = 0; y < static_cast<std::size_t>(map.height); ++y, words += rows.step) {
      if (job.channels == kWordBits<T>) {
        std::memcpy(words, job.bytes + y * width * sizeof(T), width * sizeof(T));
        continue;
      }
      for (std::size_t x = 0; x < width; ++x, at += job.channels) {
        words[x] = static_cast<T>(bits_at(job.bytes, job.size, at) & mask);
      }
    }
  }
}

inline void run_unpack(const UnpackJob& job) {
  with_word(job.output.lane, [&](auto word) { unpack_words<decltype(word)>(job); });
}

}  // namespace
}  // namespace taper
