// Compares every implementation that this CPU can run with naive loops over single values, on
// random halves; then tests the coder. Usage: taper_selftest [HALVES [SEED]]. Exits with 1 at the
// first difference.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "dispatch.hpp"
#include "half.hpp"
#include "selftest_coder.hpp"

namespace {

using taper::Half;
using taper::HalfSpec;
using taper::Kernels;
using taper::Kind;
using taper::Plan;
using taper::Stage;

using Bytes = std::vector<std::uint8_t>;
using Random = std::mt19937;

int pick(Random& random, int least, int most) {
  return std::uniform_int_distribution<int>(least, most)(random);
}

bool bit_of(const Bytes& bytes, std::size_t at) { return bytes[at / 8] >> (at % 8) & 1; }

// Height, width, channels and a value for each, channels last.
struct Values {
  int height;
  int width;
  int channels;
  std::vector<int> of;

  int at(int y, int x, int c, int outside) const {
    if (y < 0 || x < 0 || y >= height || x >= width) return outside;
    return of[(std::size_t(y) * width + x) * channels + c];
  }
};

// Sums of `outputs` outputs after pooling; values outside the map are `outside`.
Values naive_sums(const Stage& stage, const Values& in, int outputs, int outside) {
  const bool linear = stage.kind == Kind::kBinaryLinear;
  const int kernel_height = linear ? in.height : 3;
  const int kernel_width = linear ? in.width : 3;
  const int margin = linear ? 0 : 1;
  const int pool = linear ? 1 : stage.pool;
  const int side = linear ? 1 : pool * stage.stride;
  const std::size_t row = std::size_t(kernel_height) * kernel_width * stage.in_channels;
  Values sums{stage.side_after(in.height), stage.side_after(in.width), outputs, {}};
  for (int y = 0; y < sums.height; ++y) {
    for (int x = 0; x < sums.width; ++x) {
      for (int o = 0; o < outputs; ++o) {
        int largest = 0;
        for (int place = 0; place < pool * pool; ++place) {
          int sum = 0;
          for (int i = 0; i < kernel_height * kernel_width; ++i) {
            const int from_y = y * side + place / pool + i / kernel_width - margin;
            const int from_x = x * side + place % pool + i % kernel_width - margin;
            for (int c = 0; c < in.channels; ++c) {
              const std::size_t weight = std::size_t(i) * stage.in_channels + c;
              const bool plus = bit_of(stage.weight, (row + 7) / 8 * 8 * o + weight);
              const int value = in.at(from_y, from_x, c, outside) * stage.coefficients[c];
              sum += plus ? value : -value;
            }
          }
          largest = place == 0 ? sum : std::max(largest, sum);
        }
        sums.of.push_back(largest);
      }
    }
  }
  return sums;
}

Bytes naive_run(const HalfSpec& spec, std::size_t table, const std::uint8_t* input) {
  const Plan& plan = spec.plans[table];
  Values values{spec.height, spec.width, plan.in_channels, {}};
  const std::size_t count = std::size_t(spec.height) * spec.width * plan.in_channels;
  const bool pixels = spec.stages.front().kind == Kind::kImageConv;
  for (std::size_t i = 0; i < count; ++i) {
    values.of.push_back(pixels ? input[i] : (input[i / 8] >> (i % 8) & 1) * 2 - 1);
  }
  int outside = pixels ? 0 : -1;
  for (std::size_t s = 0; s < spec.stages.size(); ++s) {
    const Stage& stage = spec.stages[s];
    values = naive_sums(stage, values, plan.outputs[s], outside);
    const std::size_t row = table * stage.out_channels;
    if (stage.gives_logits()) {
      Bytes logits(values.of.size() * sizeof(float));
      for (std::size_t o = 0; o < values.of.size(); ++o) {
        volatile float product = static_cast<float>(values.of[o]) * stage.scale[row + o];
        const float logit = product + stage.bias[row + o];
        std::memcpy(&logits[o * sizeof logit], &logit, sizeof logit);
      }
      return logits;
    }
    for (std::size_t i = 0; i < values.of.size(); ++i) {
      const std::size_t o = row + i % values.channels;
      const int sum = values.of[i];
      const bool flip = stage.flip[o] != 0;
      values.of[i] = (sum >= stage.threshold[o]) != flip ? 1 : -1;
      if (stage.ternary()) values.of[i] += (sum >= stage.low_threshold[o]) != flip ? 1 : -1;
    }
    outside = stage.ternary() ? -2 : -1;
  }
  Bytes packed((values.of.size() + 7) / 8, 0);
  for (std::size_t i = 0; i < values.of.size(); ++i) {
    packed[i / 8] |= static_cast<std::uint8_t>((values.of[i] > 0) << (i % 8));
  }
  return packed;
}

std::vector<std::int32_t> random_profile(Random& random, int channels) {
  std::vector<std::int32_t> profile(channels);
  const int kind = pick(random, 0, 4);
  for (int c = 0; c < channels; ++c) {
    switch (kind) {
      case 0:
        profile[c] = 1;
        break;
      case 1:
        profile[c] = (channels + 7) / 8 - c / 8;
        break;
      case 2:
        profile[c] = std::max(1, std::min(127, channels - c));
        break;
      case 3:
        profile[c] = pick(random, 0, 127);
        break;
      default:
        profile[c] = 127;
    }
  }
  return profile;
}

HalfSpec random_spec(Random& random) {
  static const int kWidths[] = {1, 3, 8, 9, 16, 17, 24, 32, 33, 48, 64, 65, 100};
  HalfSpec spec{};
  spec.height = pick(random, 1, 13);
  spec.width = pick(random, 1, 35);
  const bool pixels = pick(random, 0, 1) == 1;
  spec.channels = pixels ? pick(random, 1, 16) : kWidths[pick(random, 0, 12)];
  const int tables = pick(random, 1, 3);
  const int count = pick(random, 1, 4);
  int height = spec.height;
  int width = spec.width;
  int channels = spec.channels;
  for (int s = 0; s < count; ++s) {
    Stage stage{};
    const bool image = pixels && s == 0;
    const bool linear = !image && pick(random, 0, 3) == 0;
    stage.kind = image ? Kind::kImageConv : linear ? Kind::kBinaryLinear : Kind::kBinaryConv;
    stage.in_channels = channels;
    stage.out_channels = kWidths[pick(random, 0, 12)];
    stage.pool = linear ? 1 : pick(random, 1, std::min(3, std::min(height, width)));
    stage.stride = linear || stage.pool > 1 ? 1 : pick(random, 1, 2);
    const std::size_t taps = linear ? std::size_t(height) * width : 9;
    stage.weight.resize(stage.out_channels * ((taps * channels + 7) / 8));
    for (auto& byte : stage.weight) byte = static_cast<std::uint8_t>(random());
    stage.coefficients = image ? std::vector<std::int32_t>(channels, 1)
                               : random_profile(random, channels);
    const std::size_t cells = std::size_t(tables) * stage.out_channels;
    if (linear && s + 1 == count && pick(random, 0, 1) == 1) {
      for (std::size_t i = 0; i < cells; ++i) {
        stage.scale.push_back(static_cast<float>(pick(random, -999, 999)) / 777.0f);
        stage.bias.push_back(static_cast<float>(pick(random, -999, 999)) / 333.0f);
      }
    } else {
      const int spread = pick(random, 0, 5) == 0 ? 2'000'000'000 : pick(random, 1, 3000);
      for (std::size_t i = 0; i < cells; ++i) {
        stage.threshold.push_back(pick(random, -spread, spread));
        stage.flip.push_back(static_cast<std::uint8_t>(pick(random, 0, 1)));
      }
      if (!image && s + 1 < count && pick(random, 0, 1) == 1) {
        for (std::size_t i = 0; i < cells; ++i) {
          stage.low_threshold.push_back(pick(random, -spread, spread));
        }
      }
    }
    height = stage.side_after(height);
    width = stage.side_after(width);
    channels = stage.out_channels;
    spec.stages.push_back(std::move(stage));
  }
  for (int table = 0; table < tables; ++table) {
    Plan plan{pixels ? spec.channels : pick(random, 1, spec.channels), {}};
    for (const Stage& stage : spec.stages) {
      plan.outputs.push_back(stage.gives_logits() ? stage.out_channels
                                                  : pick(random, 1, stage.out_channels));
    }
    spec.plans.push_back(plan);
  }
  return spec;
}

// Input of exactly `size` bytes on the heap, so that a sanitizer sees every step outside it.
Bytes random_input(Random& random, std::size_t size) {
  Bytes input(size);
  for (auto& byte : input) byte = static_cast<std::uint8_t>(random());
  return input;
}

bool same_on_all(const HalfSpec& spec, Random& random, const Kernels& kernels) {
  constexpr std::size_t kBatch = 7;  // a whole group, and a part of one
  const Half half(spec, kernels);
  for (std::size_t plan = 0; plan < half.plan_count(); ++plan) {
    const Bytes input = random_input(random, half.input_bytes(plan) * kBatch);
    Bytes output(half.output_bytes(plan) * kBatch);
    half.run(plan, input.data(), kBatch, output.data());
    for (std::size_t i = 0; i < kBatch; ++i) {
      const Bytes wanted = naive_run(spec, plan, input.data() + i * half.input_bytes(plan));
      if (!std::equal(wanted.begin(), wanted.end(), output.begin() + i * wanted.size())) {
        return false;
      }
    }
  }
  return true;
}

// Many threads that use one half at the same time must get what a single thread gets.
bool same_in_threads(const HalfSpec& spec, Random& random, const Kernels& kernels) {
  constexpr int kThreads = 8;
  constexpr int kTurns = 20;
  const Half half(spec, kernels);
  const Bytes input = random_input(random, half.input_bytes(0));
  Bytes wanted(half.output_bytes(0));
  half.run(0, input.data(), 1, wanted.data());
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      Bytes output(wanted.size());
      for (int turn = 0; turn < kTurns; ++turn) {
        half.run(0, input.data(), 1, output.data());
        if (output != wanted) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return wrong == 0;
}

}  // namespace

int main(int count, char** words) {
  const int halves = count > 1 ? std::atoi(words[1]) : 200;
  const unsigned seed = count > 2 ? static_cast<unsigned>(std::atoi(words[2])) : 1;
  const Kernels* found[taper::kMostKernels];
  const int kernels = taper::available_kernels(found);
  for (int k = 0; k < kernels; ++k) {
    Random random(seed);
    int failed = 0;
    for (int i = 0; i < halves; ++i) {
      const HalfSpec spec = random_spec(random);
      if (!same_on_all(spec, random, *found[k])) {
        std::printf("%s: half %d of seed %u differs from the naive loops\n", found[k]->name, i, seed);
        ++failed;
      }
      if (i % 20 == 0 && !same_in_threads(spec, random, *found[k])) {
        std::printf("%s: half %d of seed %u differs in threads\n", found[k]->name, i, seed);
        ++failed;
      }
    }
    std::printf("%s: %d passed, %d failed\n", found[k]->name, halves - failed, failed);
    if (failed > 0) return 1;
  }
  return taper::coder_passes(halves, seed) ? 0 : 1;
}
