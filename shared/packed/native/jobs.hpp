// The arguments of kernel calls, as plain data shared by all implementations.
//
// A map holds the bits of one image between two layers, one plane of words after another: bit i of
// plane k's word at a pixel is channel k * lane + i, and bits beyond the last channel are 0.
// Vectors run over pixels. A padded map has a margin of zero words for a 3x3 kernel; its rows are
// width + 1 words apart, so that the right margin of a row is the left margin of the next:
//
//     pixel (y, x) is word (y + 1) * (width + 1) + 1 + x
//
// The kernel for output pixel (y, x) then reads words p + r * (width + 1) + c for r, c = 0..2,
// where p = y * (width + 1) + x. Outputs for the margin column are computed and dropped.
//
// Small maps do not fill vectors, and a stride, or a pool that drops the last row and column, needs
// only some pixels of the output. So the words under the taps of the pixels that are needed can be
// gathered first, for several samples one after another (columns, as in im2col). Then `reached` is
// not padded.
//
// A channel of a ternary stage has two bits: the planes of the upper bits come first, then as many
// planes of the lower bits. A counting kernel treats them as twice the planes, with the same
// weights for both halves.
#pragma once

#include <cstddef>
#include <cstdint>

namespace taper {

constexpr int kTaps = 9;            // positions of a 3x3 kernel, row by row
constexpr int kVectorBytes = 64;    // size of the widest vector; a plane's size is a multiple of it
constexpr int kMapSlackWords = 15;  // words after a plane's last pixel, to which row loops may write
constexpr int kLargestCoefficient = 127;

enum class Lane : std::uint8_t { k8 = 8, k16 = 16, k32 = 32 };  // bits of a word

struct Map {
  void* words;
  std::size_t stride;  // words from plane to plane
  int planes;          // in a kernel's input those of both bits, in its output those of the upper bits
  int height;
  int width;
  Lane lane;
  bool padded;  // else pixels follow each other without gaps
};

// First layer: sums of pixels times -1/+1, negated, compared with limits.
struct ImageJob {
  const std::uint8_t* pixels;  // height x width x channels
  int channels;
  void* planes;  // scratch: `channels` padded maps of Lane integers, map_stride apart
  void* table;   // scratch: channels * 3 rows * 8 sign patterns of one vector
  std::size_t map_stride;
  const std::uint16_t* patterns;  // [output][channels * 3]: entry of the table for each row
  const std::uint32_t* limits;    // [output], repeated to fill 32 bits: bit = (-sum < limit)
  int outputs;
  int row_step;  // every so many rows are computed, and written one after another
  Map reached;
};

// Gathers, for each tap of a 3x3 kernel, the words of a sample under it at the needed pixels.
struct ColumnsJob {
  Map input;
  int height;  // of the needed pixels: every `stride`th of a row, in every `stride`th row
  int width;
  int stride;
  void* columns;  // scratch: [plane][tap][step]
  std::size_t step;
};

// Where a counting kernel reads the word of plane k under tap (r, c) for pixel p, in a padded map
// or in columns: words[k * plane + r * row + c * column + p].
struct Taps {
  const void* words;
  Lane lane;
  int planes;
  std::size_t plane;
  std::size_t row;
  std::size_t column;
  std::ptrdiff_t pixels;
};

// Binary 3x3 layer that counts disagreeing bits. One coefficient for each byte of a word.
struct CountJob {
  Taps input;
  const std::uint32_t* weights;       // [output][plane][9], repeated to fill 32 bits
  const std::uint32_t* coefficients;  // [plane], one a byte; null if all are equal
  const std::uint32_t* limits;        // [output], repeated: bit = (count < limit)
  const std::uint32_t* low_limits;    // of the lower bits; null if the stage is not ternary
  void* partial;                      // scratch: one vector for each output
  int outputs;
  Map reached;
};

// The same for a layer with a coefficient for each channel. Four channels share a 32-bit word: a
// byte of `eight` holds the first eight taps of one channel, a byte of `ninth` its last tap (0 or 1).
struct TapColumnsJob {
  Map input;   // of 8-bit words
  int height;  // of the needed pixels: whole rows, every `row_step`th
  int row_step;
  std::uint32_t* eight;  // scratch: [quad][step]
  std::uint32_t* ninth;
  std::size_t step;
  int quads;
};

// Binary 3x3 layer with a coefficient for each channel.
struct TapsJob {
  const std::uint32_t* eight;
  const std::uint32_t* ninth;
  std::size_t step;
  std::ptrdiff_t pixels;
  int quads;
  const std::uint32_t* weights;       // [output / 4][quad][4]
  const std::uint32_t* ninth_weights; // [output / 4][quad][4], 0 or 1 in each byte
  const std::uint32_t* coefficients;  // [quad]
  const std::uint32_t* limits;        // [output]: bit = (sum < limit)
  const std::uint32_t* low_limits;    // as in CountJob
  int outputs;                        // a multiple of 4
  Map reached;
};

// Binary layer over a whole map: weighted counts of disagreeing bits, one for each output.
struct LinearJob {
  Map input;                          // not padded; words after the last pixel are 0
  const std::uint8_t* weights;        // [output][plane][stride]
  const std::uint32_t* coefficients;  // [plane], one a byte; null: use masks
  const std::uint32_t* masks;         // [bit][plane]: channels whose coefficient has this bit
  int mask_bits;
  int outputs;
  std::int32_t* counts;
};

// Max pooling of thresholded sums or a stride, flips, and the words that the next layer reads.
struct FinishJob {
  Map reached;  // before pooling
  int pool;
  int stride;   // where there is no pool: of the pixels of a row that remain
  const std::uint32_t* flips;  // [plane of output]
  void* rows;                  // scratch: width + 16 words for each plane of `reached`
  Map output;
};

struct PackJob {
  Map input;  // not padded
  int channels;
  std::uint8_t* bytes;
  std::size_t size;
};

struct UnpackJob {
  const std::uint8_t* bytes;
  std::size_t size;
  int channels;
  Map output;
};

// One implementation of all kernels.
struct Kernels {
  const char* name;
  int vector_bits;
  void (*image)(const ImageJob&);
  void (*columns)(const ColumnsJob&);
  void (*count)(const CountJob&);
  void (*tap_columns)(const TapColumnsJob&);
  void (*taps)(const TapsJob&);
  void (*linear)(const LinearJob&);
  void (*finish)(const FinishJob&);
  void (*pack)(const PackJob&);
  void (*unpack)(const UnpackJob&);
  double (*peak)(long rounds);
};

}  // namespace taper
