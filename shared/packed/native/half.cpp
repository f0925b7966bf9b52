#include "half.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <new>
#include <stdexcept>

#include "check.hpp"

namespace taper {
namespace {

constexpr std::size_t kMostScratchBytes = std::size_t{1} << 28;
constexpr int kImagePatterns = 8;

// Samples with small maps are executed in groups, as one of them would not fill vectors.
constexpr std::size_t kGroup = 4;
constexpr int kSmallPixels = 32 * 32;

// Columns cost little, but so do a few words that nobody needs: gathered if they save more than an
// eighth.
bool pays(int pixels, const Map& map) {
  return 8 * std::int64_t{pixels} < 7 * std::int64_t{map.height} * (map.width + 1);
}

std::size_t aligned(std::size_t bytes) {
  return (bytes + kVectorBytes - 1) / kVectorBytes * kVectorBytes;
}

std::size_t map_bytes(const Map& map) {
  return map.stride * map.planes * (lane_bits(map.lane) / 8);
}

// The map of the lower bits of a ternary stage, whose planes follow those of the upper bits.
Map lower(Map map) {
  map.words = static_cast<std::uint8_t*>(map.words) + map_bytes(map);
  return map;
}

Map make_map(int height, int width, int channels, Lane lane, bool padded) {
  return Map{nullptr, map_stride(height, width, lane, padded), planes_for(channels, lane),
             height,  width,                                   lane,
             padded};
}

// The scratch memory of a thread; as large as the largest half that it has run.
class Memory {
 public:
  ~Memory() { release(); }

  std::uint8_t* at_least(std::size_t size) {
    if (size > size_) {
      release();
      words_ = static_cast<std::uint8_t*>(::operator new(size, std::align_val_t{kVectorBytes}));
      size_ = size;
      std::memset(words_, 0, size);
    }
    return words_;
  }

 private:
  void release() {
    if (words_ != nullptr) ::operator delete(words_, std::align_val_t{kVectorBytes});
    words_ = nullptr;
    size_ = 0;
  }

  std::uint8_t* words_ = nullptr;
  std::size_t size_ = 0;
};

thread_local Memory memory;

}  // namespace

Half::Half(const HalfSpec& spec, const Kernels& kernels) : kernels_(kernels) {
  check_spec(spec);
  takes_pixels_ = spec.stages.front().kind == Kind::kImageConv;
  gives_logits_ = spec.stages.back().gives_logits();
  channels_ = spec.channels;
  group_ = spec.height * spec.width <= kSmallPixels ? kGroup : 1;
  std::map<std::pair<std::size_t, int>, std::shared_ptr<const Weights>> shared;
  for (std::size_t table = 0; table < spec.plans.size(); ++table) {
    const Plan& plan = spec.plans[table];
    Prepared prepared;
    prepared.in_channels = plan.in_channels;
    int height = spec.height;
    int width = spec.width;
    int channels = plan.in_channels;
    for (std::size_t i = 0; i < spec.stages.size(); ++i) {
      const Stage& stage = spec.stages[i];
      auto& weights = shared[{i, channels}];
      if (!weights) {
        const int bits = i > 0 && spec.stages[i - 1].ternary() ? 2 : 1;
        weights =
            std::make_shared<const Weights>(make_weights(stage, height, width, channels, bits));
      }
      const bool linear = stage.kind == Kind::kBinaryLinear;
      Step step;
      step.weights = weights;
      step.outputs = plan.outputs[i];
      step.pool = linear ? 1 : stage.pool;
      step.stride = stage.stride;
      step.input = make_map(height, width, channels, weights->lane, !linear);
      step.input.planes *= weights->input_bits;
      const bool taps = weights->path == Path::kTaps;
      const Lane lane = linear || taps ? Lane::k32 : weights->lane;
      const int after = stage.side_after(height);
      const int after_width = stage.side_after(width);
      const int rows = after * step.pool;
      const int columns = taps ? width : after_width * step.pool;
      const bool counts = weights->path == Path::kCount;
      if (taps || (counts && pays(rows * columns, step.input))) {
        const int all = static_cast<int>(group_) * rows;
        step.gathered = std::size_t(rows) * columns;
        step.reached = make_map(all, columns, step.outputs, lane, false);
      } else {
        step.reached = make_map(linear ? 1 : height, linear ? 1 : width, step.outputs, lane, true);
      }
      const std::size_t at = table * stage.out_channels;
      if (stage.gives_logits()) {
        step.scale.assign(&stage.scale[at], &stage.scale[at] + step.outputs);
        step.bias.assign(&stage.bias[at], &stage.bias[at] + step.outputs);
      } else if (linear) {
        step.thresholds.assign(&stage.threshold[at], &stage.threshold[at] + step.outputs);
        if (stage.ternary()) {
          step.low_thresholds.assign(&stage.low_threshold[at],
                                     &stage.low_threshold[at] + step.outputs);
        }
      } else {
        step.limits = make_limits(*weights, &stage.threshold[at], step.outputs);
        if (stage.ternary()) {
          step.low_limits = make_limits(*weights, &stage.low_threshold[at], step.outputs);
        }
      }
      height = after;
      width = after_width;
      channels = step.outputs;
      prepared.steps.push_back(std::move(step));
    }
    for (std::size_t i = 0; i < prepared.steps.size(); ++i) {
      Step& step = prepared.steps[i];
      const bool last = i + 1 == prepared.steps.size();
      step.output = last ? make_map(height, width, channels, step.reached.lane, false)
                         : prepared.steps[i + 1].input;
      step.output.planes = planes_for(step.outputs, step.output.lane);  // of one bit
      const Stage& stage = spec.stages[i];
      if (!stage.gives_logits()) {
        const std::size_t at = table * stage.out_channels;
        step.flips = make_flips(&stage.flip[at], step.outputs, step.output.lane);
      }
    }
    const std::size_t pixels = std::size_t(spec.height) * spec.width;
    const std::size_t bits = std::size_t(height) * width * channels;
    prepared.input_bytes = takes_pixels_ ? pixels * channels_
                                         : (pixels * plan.in_channels + 7) / 8;
    prepared.output_bytes = gives_logits_ ? sizeof(float) * channels : (bits + 7) / 8;
    plans_.push_back(std::move(prepared));
  }
  lay_out();
}

void Half::lay_out() {
  std::size_t maps = 0;
  std::size_t reached = 0;
  std::size_t partial = 0;
  std::size_t extra = 0;
  std::size_t rows = 0;
  for (const Prepared& plan : plans_) {
    for (const Step& step : plan.steps) {
      const Weights& weights = *step.weights;
      const std::size_t outputs = step.outputs;
      maps = std::max({maps, map_bytes(step.input), map_bytes(step.output)});
      reached = std::max(reached, map_bytes(step.reached) * (step.ternary() ? 2 : 1));
      rows = std::max(rows, std::size_t(4) * step.reached.planes *
                                (step.reached.width + kMapSlackWords + 1));
      switch (weights.path) {
        case Path::kImage:
          extra = std::max(extra, channels_ * (map_bytes(step.input) +
                                               std::size_t(3) * kImagePatterns * kVectorBytes));
          break;
        case Path::kCount:
          partial = std::max(partial, outputs * kVectorBytes);
          if (step.gathered > 0) {
            extra = std::max(extra, step.input.planes * kTaps * step.reached.stride *
                                        (lane_bits(step.input.lane) / 8));
          }
          break;
        case Path::kTaps:
          extra = std::max(extra, 2 * weights.coefficients.size() * step.reached.stride * 4);
          break;
        case Path::kLinear:
          partial = std::max(partial, outputs * sizeof(std::int32_t));
          break;
      }
    }
  }
  std::size_t at = 0;
  const auto take = [&at](std::size_t bytes) {
    const std::size_t begin = at;
    at += aligned(bytes);
    return begin;
  };
  scratch_.map_bytes = aligned(maps);
  scratch_.maps[0] = take(group_ * scratch_.map_bytes);
  scratch_.maps[1] = take(group_ * scratch_.map_bytes);
  scratch_.reached = take(reached);
  scratch_.partial = take(partial);
  scratch_.extra = take(extra);
  scratch_.rows = take(rows);
  scratch_.size = at;
  if (at > kMostScratchBytes) {
    throw std::invalid_argument("half: needs " + std::to_string(at) +
                                " bytes of scratch memory, must be at most " +
                                std::to_string(kMostScratchBytes));
  }
}

Map Half::map_of(const Map& map, std::size_t step, std::size_t sample,
                 std::uint8_t* scratch) const {
  Map found = map;
  found.words = scratch + scratch_.maps[step % 2] + sample * scratch_.map_bytes;
  return found;
}

void Half::decode(const Prepared& plan, const Group& group) const {
  if (takes_pixels_) return;
  for (std::size_t i = 0; i < group.samples; ++i) {
    kernels_.unpack(UnpackJob{group.input + i * plan.input_bytes, plan.input_bytes,
                              plan.in_channels,
                              map_of(plan.steps.front().input, 0, i, group.scratch)});
  }
}

void Half::execute(const Prepared& plan, std::size_t index, const Group& group) const {
  if (plan.steps[index].gathered > 0) return execute_gathered(plan, index, group);
  for (std::size_t i = 0; i < group.samples; ++i) execute_one(plan, index, group, i);
}

void Half::execute_one(const Prepared& plan, std::size_t index, const Group& group,
                       std::size_t sample) const {
  const Step& step = plan.steps[index];
  const Weights& weights = *step.weights;
  std::uint8_t* scratch = group.scratch;
  const Map from = map_of(step.input, index, sample, scratch);
  Map reached = step.reached;
  reached.words = scratch + scratch_.reached;
  if (weights.path == Path::kImage) {
    std::uint8_t* planes = scratch + scratch_.extra;
    kernels_.image(ImageJob{group.input + sample * plan.input_bytes, channels_, planes,
                            planes + channels_ * map_bytes(step.input), step.input.stride,
                            weights.patterns.data(), step.limits.data(), step.outputs, step.stride,
                            reached});
  } else if (weights.path == Path::kLinear) {
    linear(step, from, reached, group.output + sample * plan.output_bytes, scratch);
  } else {
    const std::size_t row = from.width + 1;
    count(step,
          Taps{from.words, from.lane, from.planes, from.stride, row, 1,
               static_cast<std::ptrdiff_t>(from.height * row)},
          reached, scratch);
  }
  if (step.scale.empty()) {
    finish(step, reached, map_of(step.output, index + 1, sample, scratch), scratch);
  }
}

void Half::execute_gathered(const Prepared& plan, std::size_t index, const Group& group) const {
  const Step& step = plan.steps[index];
  const Weights& weights = *step.weights;
  std::uint8_t* scratch = group.scratch;
  std::uint8_t* extra = scratch + scratch_.extra;
  Map reached = step.reached;
  reached.words = scratch + scratch_.reached;
  const std::size_t words = reached.stride;  // a plane's under one tap
  const std::size_t word_bytes = lane_bits(reached.lane) / 8;
  const int width = reached.width;
  const int height = static_cast<int>(step.gathered) / width;
  const auto pixels = static_cast<std::ptrdiff_t>(group.samples * step.gathered);
  if (weights.path == Path::kCount) {
    for (std::size_t i = 0; i < group.samples; ++i) {
      kernels_.columns(ColumnsJob{map_of(step.input, index, i, scratch), height, width, step.stride,
                                  extra + i * step.gathered * word_bytes, words});
    }
    count(step,
          Taps{extra, step.input.lane, step.input.planes, kTaps * words, 3 * words, words, pixels},
          reached, scratch);
  } else {
    const auto quads = static_cast<int>(weights.coefficients.size());
    auto* eight = reinterpret_cast<std::uint32_t*>(extra);
    std::uint32_t* ninth = eight + quads * words;
    for (std::size_t i = 0; i < group.samples; ++i) {
      const std::size_t at = i * step.gathered;
      kernels_.tap_columns(TapColumnsJob{map_of(step.input, index, i, scratch), height, step.stride,
                                         eight + at, ninth + at, words, quads});
    }
    kernels_.taps(TapsJob{eight, ninth, words, pixels, quads, weights.words.data(),
                          weights.ninth.data(), weights.coefficients.data(), step.limits.data(),
                          step.ternary() ? step.low_limits.data() : nullptr,
                          static_cast<int>(step.limits.size()), reached});
  }
  for (std::size_t i = 0; i < group.samples; ++i) {
    Map one = reached;
    one.words = scratch + scratch_.reached + i * step.gathered * word_bytes;
    finish(step, one, map_of(step.output, index + 1, i, scratch), scratch);
  }
}

void Half::count(const Step& step, const Taps& input, const Map& reached,
                 std::uint8_t* scratch) const {
  const Weights& weights = *step.weights;
  const bool weighted = !weights.coefficients.empty();
  kernels_.count(CountJob{input, weights.words.data(),
                          weighted ? weights.coefficients.data() : nullptr, step.limits.data(),
                          step.ternary() ? step.low_limits.data() : nullptr,
                          scratch + scratch_.partial, step.outputs, reached});
}

void Half::finish(const Step& step, const Map& reached, const Map& output,
                  std::uint8_t* scratch) const {
  // Columns of a counting stage have no other pixels; other stages leave out rows only.
  const int stride = step.weights->path == Path::kCount ? 1 : step.stride;
  FinishJob job{reached, step.pool, stride, step.flips.data(), scratch + scratch_.rows, output};
  kernels_.finish(job);
  if (step.ternary()) {
    job.reached = lower(reached);
    job.output = lower(output);
    kernels_.finish(job);
  }
}

void Half::linear(const Step& step, const Map& input, const Map& reached, std::uint8_t* output,
                  std::uint8_t* scratch) const {
  const Weights& weights = *step.weights;
  auto* counts = reinterpret_cast<std::int32_t*>(scratch + scratch_.partial);
  const bool by_byte = weights.mask_bits == 0;
  kernels_.linear(LinearJob{input, weights.bytes.data(),
                            by_byte ? weights.coefficients.data() : nullptr, weights.masks.data(),
                            weights.mask_bits, step.outputs, counts});
  const auto total = static_cast<std::int32_t>(weights.total);
  if (!step.scale.empty()) {
    for (int o = 0; o < step.outputs; ++o) {
      // Two roundings, as in the reference. The build forbids a fused multiply-add, which has one.
      const float product = static_cast<float>(total - 2 * counts[o]) * step.scale[o];
      const float logit = product + step.bias[o];
      std::memcpy(output + o * sizeof logit, &logit, sizeof logit);
    }
    return;
  }
  const auto set_bits = [&](const Map& map, const std::vector<std::int32_t>& thresholds) {
    auto* words = static_cast<std::uint32_t*>(map.words);
    for (int k = 0; k < map.planes; ++k) words[k * map.stride] = 0;
    for (int o = 0; o < step.outputs; ++o) {
      const bool bit = total - 2 * counts[o] >= thresholds[o];
      words[o / 32 * map.stride] |= static_cast<std::uint32_t>(bit) << (o % 32);
    }
  };
  set_bits(reached, step.thresholds);
  if (step.ternary()) set_bits(lower(reached), step.low_thresholds);
}

void Half::encode(const Prepared& plan, const Group& group) const {
  if (gives_logits_) return;
  const Step& last = plan.steps.back();
  for (std::size_t i = 0; i < group.samples; ++i) {
    kernels_.pack(PackJob{map_of(last.output, plan.steps.size(), i, group.scratch), last.outputs,
                          group.output + i * plan.output_bytes, plan.output_bytes});
  }
}

void Half::run(std::size_t plan_index, const std::uint8_t* input, std::size_t batch,
               std::uint8_t* output) const {
  const Prepared& plan = plans_[plan_index];
  std::uint8_t* scratch = memory.at_least(scratch_.size);
  for (std::size_t i = 0; i < batch; i += group_) {
    const Group group{std::min(group_, batch - i), input + i * plan.input_bytes,
                      output + i * plan.output_bytes, scratch};
    decode(plan, group);
    for (std::size_t s = 0; s < plan.steps.size(); ++s) execute(plan, s, group);
    encode(plan, group);
  }
}

std::vector<double> Half::profile(std::size_t plan_index, const std::uint8_t* input,
                                  int repeats) const {
  using Clock = std::chrono::steady_clock;
  const Prepared& plan = plans_[plan_index];
  std::vector<std::uint8_t> output(plan.output_bytes);
  const Group one{1, input, output.data(), memory.at_least(scratch_.size)};
  std::vector<double> seconds;
  const auto measure = [&](const auto& part) {
    const auto begin = Clock::now();
    for (int i = 0; i < repeats; ++i) part();
    const std::chrono::duration<double> elapsed = Clock::now() - begin;
    seconds.push_back(elapsed.count() / repeats);
  };
  measure([&] { decode(plan, one); });
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    measure([&] { execute(plan, s, one); });
  }
  measure([&] { encode(plan, one); });
  return seconds;
}

}  // namespace taper
