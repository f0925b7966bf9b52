/* Weighted popcounts: the inner products of binary layers.
 *
 * Nine words of mismatches are added bit by bit with carry-save adders (as Harley and Seal count
 * bits, "Hacker's Delight", 5-2), so that one popcount serves nine kernel positions.
 */
#ifndef TAPER_DOT_H
#define TAPER_DOT_H

#include "taper_blob.h"

enum { BLOCK = 9 };

/* How often each of 32 bits was set, as four planes of binary digits. */
typedef struct {
  uint32_t ones, twos, fours, eights;
} counters;

static inline uint32_t carry(uint32_t a, uint32_t b, uint32_t c) { return (a & b) | ((a ^ b) & c); }

static inline uint32_t fours_sum(uint32_t x) { /* bits set in each nibble */
  x -= (x >> 1) & UINT32_C(0x55555555);
  return (x & UINT32_C(0x33333333)) + ((x >> 2) & UINT32_C(0x33333333));
}

static inline uint32_t eights_sum(uint32_t x) { /* nibbles (at most 12) to bytes */
  return (x & UINT32_C(0x0f0f0f0f)) + ((x >> 4) & UINT32_C(0x0f0f0f0f));
}

/* Set bits of each byte, counted with their multiplicity: at most 8 * 9. */
static inline uint32_t by_byte(counters c) {
  const uint32_t low = eights_sum(fours_sum(c.ones) + 2u * fours_sum(c.twos));
  const uint32_t high = eights_sum(fours_sum(c.fours) + 2u * fours_sum(c.eights));
  return low + 4u * high;
}

/* Bytes 0 to 3 of `counts` times their coefficients, which stand as c0 << 16 | c2 and c1 << 16 | c3:
 * of each product the upper half is the sum of two, and the lower one cannot reach it. */
static inline uint32_t weigh_bytes(uint32_t counts, const uint32_t *coefficients) {
  return ((counts & UINT32_C(0x00ff00ff)) * coefficients[0] >> 16) +
         ((counts >> 8 & UINT32_C(0x00ff00ff)) * coefficients[1] >> 16);
}

/* The same for two times two bytes of two outputs; their sums stand in the halves of the result. */
static inline uint32_t weigh_halves(uint32_t counts, const uint32_t *coefficients) {
  return (counts & UINT32_C(0x00ff00ff)) * (coefficients[0] >> 16) +
         (counts >> 8 & UINT32_C(0x00ff00ff)) * (coefficients[1] >> 16);
}

/* A byte cannot hold the sum of four bytes of up to 72: add two and two. */
static uint32_t sum_of_bytes(uint32_t x) {
  const uint32_t pairs = (x & UINT32_C(0x00ff00ff)) + (x >> 8 & UINT32_C(0x00ff00ff));
  return (pairs & 0xffffu) + (pairs >> 16);
}

static uint32_t weigh_planes(counters c, const uint32_t *planes, uint32_t count) {
  uint32_t total = 0;
  for (uint32_t j = 0; j < count; j++) {
    const counters chosen = {c.ones & planes[j], c.twos & planes[j], c.fours & planes[j],
                             c.eights & planes[j]};
    total += sum_of_bytes(by_byte(chosen)) << j;
  }
  return total;
}

static inline counters count_block(const uint32_t *bits, const uint32_t *weights, uint32_t mask) {
  uint32_t a = bits[0] ^ weights[0], b = bits[1] ^ weights[1], c = bits[2] ^ weights[2];
  const uint32_t s1 = a ^ b ^ c, t1 = carry(a, b, c);
  a = bits[3] ^ weights[3];
  b = bits[4] ^ weights[4];
  c = bits[5] ^ weights[5];
  const uint32_t s2 = a ^ b ^ c, t2 = carry(a, b, c);
  a = bits[6] ^ weights[6];
  b = bits[7] ^ weights[7];
  c = bits[8] ^ weights[8];
  const uint32_t s3 = a ^ b ^ c, t3 = carry(a, b, c);
  const uint32_t t4 = carry(s1, s2, s3), t = t1 ^ t2 ^ t3;
  const uint32_t f1 = carry(t1, t2, t3), f2 = t & t4;
  const counters result = {(s1 ^ s2 ^ s3) & mask, (t ^ t4) & mask, (f1 ^ f2) & mask, f1 & f2 & mask};
  return result;
}

static uint32_t weigh(counters c, const uint32_t *coefficients, uint32_t planes) {
  return planes ? weigh_planes(c, coefficients, planes) : weigh_bytes(by_byte(c), coefficients);
}

/* Words of coefficients that belong to 32 channels. */
static inline uint32_t coefficient_words(uint32_t planes) { return planes ? planes : 2u; }

/* Mismatches over all taps: sum of c_i over the places where bits and weights differ. Both hold
 * `words` words one after another, and of each word its taps; `mask` has the bits of the last word
 * that count. This is the general form, for any taps and coefficients. */
static uint32_t any_mismatches(const uint32_t *bits, const uint32_t *weights, uint32_t taps,
                               uint32_t words, uint32_t mask, const uint32_t *coefficients,
                               uint32_t planes) {
  uint32_t total = 0;
  for (; words; words--, coefficients += coefficient_words(planes)) {
    const uint32_t chosen = words == 1u ? mask : UINT32_MAX;
    uint32_t tap = taps;
    for (; tap >= BLOCK; tap -= BLOCK, bits += BLOCK, weights += BLOCK)
      total += weigh(count_block(bits, weights, chosen), coefficients, planes);
    for (; tap; tap--) {
      const counters c = {(*bits++ ^ *weights++) & chosen, 0, 0, 0};
      total += weigh(c, coefficients, planes);
    }
  }
  return total;
}

/* The same for nine taps and coefficients by the byte: where nearly all of the time goes. */
static inline uint32_t nine_mismatches(const uint32_t *bits, const uint32_t *weights,
                                       uint32_t words, uint32_t mask,
                                       const uint32_t *coefficients) {
  uint32_t total = 0;
  for (; --words; bits += BLOCK, weights += BLOCK, coefficients += 2)
    total += weigh_bytes(by_byte(count_block(bits, weights, UINT32_MAX)), coefficients);
  return total + weigh_bytes(by_byte(count_block(bits, weights, mask)), coefficients);
}

/* Sum of the coefficients of `channels` channels. */
static inline uint32_t total_of(uint32_t channels, const uint32_t *coefficients, uint32_t planes) {
  uint32_t total = 0;
  for (uint32_t left = words_of(channels); left; left--, coefficients += coefficient_words(planes)) {
    const counters c = {left == 1u ? last_mask(channels) : UINT32_MAX, 0, 0, 0};
    total += weigh(c, coefficients, planes);
  }
  return total;
}

#endif
