#include "check.hpp"

#include <stdexcept>
#include <string>

namespace taper {
namespace {

constexpr int kLargestSide = 1 << 14;
constexpr int kMostChannels = 1 << 16;
constexpr int kLargestStride = 2;
constexpr int kMostColours = 1 << 10;
constexpr std::int64_t kExactIntegers = 1 << 24;  // float32 represents all integers up to here

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument(message); }

void expect(const std::string& what, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) {
    refuse(what + ": " + std::to_string(value) + " is not allowed, must be " +
           std::to_string(least) + " to " + std::to_string(most));
  }
}

void expect_size(const std::string& what, std::size_t size, std::size_t wanted) {
  if (size != wanted) {
    refuse(what + ": has " + std::to_string(size) + " values, must have " +
           std::to_string(wanted));
  }
}

void check_stage(const Stage& stage, const std::string& name, int height, int width, int channels,
                 std::size_t tables, int input_bits, bool first, bool last) {
  if (stage.kind == Kind::kImageConv && !first) refuse(name + ": only the first may take pixels");
  expect(name + ".in_channels", stage.in_channels, channels, channels);
  expect(name + ".out_channels", stage.out_channels, 1, kMostChannels);
  expect(name + ".pool", stage.pool, 1, height < width ? height : width);
  const bool linear = stage.kind == Kind::kBinaryLinear;
  expect(name + ".stride", stage.stride, 1, linear || stage.pool > 1 ? 1 : kLargestStride);
  const std::size_t taps = linear ? std::size_t(height) * width : kTaps;
  const std::size_t out = stage.out_channels;
  expect_size(name + ".weight", stage.weight.size(), out * ((taps * channels + 7) / 8));
  expect_size(name + ".coefficients", stage.coefficients.size(), channels);
  std::int64_t largest = 0;
  for (const std::int32_t coefficient : stage.coefficients) {
    const bool pixels = stage.kind == Kind::kImageConv;
    expect(name + ".coefficients", coefficient, pixels ? 1 : 0, pixels ? 1 : kLargestCoefficient);
    largest += coefficient;
  }
  largest *= static_cast<std::int64_t>(taps) * (stage.kind == Kind::kImageConv ? 255 : input_bits);
  if (largest >= kExactIntegers) {
    refuse(name + ": sums up to " + std::to_string(largest) + " exceed 2**24");
  }
  if (stage.gives_logits() && !(linear && last)) refuse(name + ": only the last may give logits");
  const std::size_t table = tables * out;
  if (stage.ternary() && (last || stage.kind == Kind::kImageConv)) {
    refuse(name + ": neither an image stage nor the last may be ternary");
  }
  if (stage.ternary()) expect_size(name + ".low_threshold", stage.low_threshold.size(), table);
  expect_size(name + ".threshold", stage.threshold.size(), stage.gives_logits() ? 0 : table);
  expect_size(name + ".flip", stage.flip.size(), stage.gives_logits() ? 0 : table);
  expect_size(name + ".scale", stage.scale.size(), stage.gives_logits() ? table : 0);
  expect_size(name + ".bias", stage.bias.size(), stage.gives_logits() ? table : 0);
}

}  // namespace

void check_spec(const HalfSpec& spec) {
  expect("height", spec.height, 1, kLargestSide);
  expect("width", spec.width, 1, kLargestSide);
  expect("channels", spec.channels, 1, kMostChannels);
  if (spec.stages.empty()) refuse("stages: must have at least one");
  if (spec.plans.empty()) refuse("plans: must have at least one");
  int height = spec.height;
  int width = spec.width;
  int channels = spec.channels;
  for (std::size_t i = 0; i < spec.stages.size(); ++i) {
    const Stage& stage = spec.stages[i];
    check_stage(stage, "stage " + std::to_string(i), height, width, channels, spec.plans.size(),
                i > 0 && spec.stages[i - 1].ternary() ? 2 : 1, i == 0, i + 1 == spec.stages.size());
    height = stage.side_after(height);
    width = stage.side_after(width);
    channels = stage.out_channels;
  }
  if (spec.stages.front().kind == Kind::kImageConv) {
    expect("channels of the image", spec.channels, 1, kMostColours);
  }
  const bool pixels = spec.stages.front().kind == Kind::kImageConv;
  for (std::size_t i = 0; i < spec.plans.size(); ++i) {
    const Plan& plan = spec.plans[i];
    const std::string name = "plan " + std::to_string(i);
    expect(name + ".in_channels", plan.in_channels, pixels ? spec.channels : 1, spec.channels);
    expect_size(name + ".outputs", plan.outputs.size(), spec.stages.size());
    for (std::size_t s = 0; s < plan.outputs.size(); ++s) {
      expect(name + ".outputs", plan.outputs[s], 1, spec.stages[s].out_channels);
    }
  }
}

}  // namespace taper
