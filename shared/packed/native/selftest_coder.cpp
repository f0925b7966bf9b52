#include "selftest_coder.hpp"

#include <algorithm>
#include <cstdio>
#include <random>

#include "coder.hpp"

namespace taper {
namespace {

using Bytes = std::vector<std::uint8_t>;
using Random = std::mt19937;

// The FNV-1a hash of what 20 coders of seed 1 write. The bytes on the wire must not depend on the
// compiler or the CPU.
constexpr int kHashedCoders = 20;
constexpr std::uint64_t kPayloads = 0x2bbdb43a31e20418;

// Not std::uniform_int_distribution, whose numbers differ between libraries.
int pick(Random& random, int least, int most) {
  return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
}

template <class T>
void fill(std::vector<T>& values, std::size_t count, Random& random, int reach) {
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back(static_cast<T>(pick(random, -reach, reach)));
  }
}

CoderSpec random_coder(Random& random) {
  CoderSpec spec{};
  spec.height = pick(random, 1, 9);
  spec.width = pick(random, 1, 9);
  spec.channels = pick(random, 1, 40);
  spec.hidden = kHiddenStep * pick(random, 1, kMostHidden / kHiddenStep);
  const std::size_t pixels = static_cast<std::size_t>(spec.height) * spec.width;
  const std::size_t channels = static_cast<std::size_t>(spec.channels);
  const std::size_t hidden = static_cast<std::size_t>(spec.hidden);
  const int reach = pick(random, 1, 120);
  fill(spec.base, pixels * hidden, random, reach);
  fill(spec.neighbour, kNeighbours * channels * hidden, random, reach);
  fill(spec.channel, channels * hidden, random, reach);
  fill(spec.output, channels * hidden, random, reach);
  fill(spec.bias, channels, random, 9000);
  for (int i = 0; i < kProbabilities; ++i) {
    spec.probability.push_back(static_cast<std::uint16_t>(32 + i * 63));
  }
  return spec;
}

// Samples with runs, as feature maps have; the bits after a sample are 0.
Bytes random_samples(Random& random, const CoderSpec& spec, std::size_t samples, std::size_t size) {
  Bytes packed(samples * size, 0);
  const std::size_t bits = static_cast<std::size_t>(spec.height) * spec.width * spec.channels;
  const unsigned ones = random() % 8;
  for (std::size_t s = 0; s < samples; ++s) {
    for (std::size_t i = 0; i < bits; ++i) {
      if (random() % 8 <= ones) packed[s * size + i / 8] |= std::uint8_t(1 << i % 8);
    }
  }
  return packed;
}

bool round_trip(Random& random, const CoderSpec& spec, std::uint64_t& hash) {
  const ContextCoder coder(spec);
  const std::size_t samples = static_cast<std::size_t>(pick(random, 1, 5));
  const Bytes packed = random_samples(random, spec, samples, coder.sample_bytes());
  const auto payload = coder.encode(packed.data(), samples, 16 * packed.size() + 16);
  if (!payload) return false;
  for (const std::uint8_t byte : *payload) hash = (hash ^ byte) * 0x100000001b3;
  Bytes decoded(packed.size(), 0xff);
  if (!coder.decode(payload->data(), payload->size(), samples, decoded.data())) return false;
  if (decoded != packed) return false;
  if (coder.encode(packed.data(), samples, payload->size())) return false;  // the limit holds
  Bytes altered = *payload;
  altered.push_back(0);
  if (coder.decode(altered.data(), altered.size(), samples, decoded.data())) return false;
  // A changed bit may decode to another sample, but then encoding that must return this payload.
  altered.pop_back();
  if (altered.empty()) return true;
  altered[random() % altered.size()] ^= std::uint8_t(1 << random() % 8);
  if (!coder.decode(altered.data(), altered.size(), samples, decoded.data())) return true;
  const auto again = coder.encode(decoded.data(), samples, altered.size() + 1);
  return again && *again == altered;
}

}  // namespace

bool coder_passes(int coders, unsigned seed) {
  Random random(seed);
  std::uint64_t hash = 0xcbf29ce484222325;
  for (int i = 0; i < coders; ++i) {
    if (!round_trip(random, random_coder(random), hash)) {
      std::printf("coder %d of seed %u does not give back what it took\n", i, seed);
      return false;
    }
    if (seed == 1 && i + 1 == kHashedCoders && hash != kPayloads) {
      std::printf("the payloads differ from those of other machines: %#llx\n",
                  static_cast<unsigned long long>(hash));
      return false;
    }
  }
  std::printf("coder: %d passed, 0 failed\n", coders);
  return true;
}

}  // namespace taper
