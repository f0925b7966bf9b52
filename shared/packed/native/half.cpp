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
      const bool words32 = linear || weights->path == Path::kTaps;
      step.reached = make_map(linear ? 1 : height, linear ? 1 : width, step.outputs,
                              words32 ? Lane::k32 : weights->lane, true);
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
      height = stage.side_after(height);
      width = stage.side_after(width);
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
  scratch_.maps[0] = take(maps);
  scratch_.maps[1] = take(maps);
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

void Half::decode(const Prepared& plan, const std::uint8_t* input, std::uint8_t* scratch) const {
  if (takes_pixels_) return;
  UnpackJob job{input, plan.input_bytes, plan.in_channels, plan.steps.front().input};
  job.output.words = scratch + scratch_.maps[0];
  kernels_.unpack(job);
}

void Half::execute(const Prepared& plan, std::size_t index, const std::uint8_t* input,
                   std::uint8_t* output, std::uint8_t* scratch) const {
  const Step& step = plan.steps[index];
  const Weights& weights = *step.weights;
  const std::uint32_t* words = weights.words.data();
  const std::uint32_t* limits = step.limits.data();
  const std::uint32_t* low_limits = step.ternary() ? step.low_limits.data() : nullptr;
  std::uint8_t* extra = scratch + scratch_.extra;
  Map from = step.input;
  Map reached = step.reached;
  Map to = step.output;
  from.height -= from.height % step.pool;  // rows that the pool drops are not computed
  from.words = scratch + scratch_.maps[index % 2];
  to.words = scratch + scratch_.maps[(index + 1) % 2];
  reached.words = scratch + scratch_.reached;
  switch (weights.path) {
    case Path::kImage: {
      std::uint8_t* table = extra + channels_ * map_bytes(step.input);
      kernels_.image(ImageJob{input, channels_, extra, table, step.input.stride,
                              weights.patterns.data(), limits, step.outputs, step.stride,
                              reached});
      break;
    }
    case Path::kCount: {
      const bool weighted = !weights.coefficients.empty();
      kernels_.count(CountJob{from, words, weighted ? weights.coefficients.data() : nullptr, limits,
                              low_limits, scratch + scratch_.partial, step.outputs, step.stride,
                              reached});
      break;
    }
    case Path::kTaps: {
      const std::size_t quads = weights.coefficients.size();
      auto* eight = reinterpret_cast<std::uint32_t*>(extra);
      kernels_.taps(TapsJob{from, eight, eight + quads * reached.stride, reached.stride,
                            static_cast<int>(quads), words, weights.ninth.data(),
                            weights.coefficients.data(), limits, low_limits,
                            static_cast<int>(step.limits.size()), step.stride, reached});
      break;
    }
    case Path::kLinear:
      linear(step, from, reached, output, scratch);
      break;
  }
  if (step.scale.empty()) finish(step, reached, to, scratch);
}

void Half::finish(const Step& step, const Map& reached, const Map& output,
                  std::uint8_t* scratch) const {
  FinishJob job{reached, step.pool, step.stride, step.flips.data(), scratch + scratch_.rows, output};
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

void Half::encode(const Prepared& plan, std::uint8_t* output, std::uint8_t* scratch) const {
  if (gives_logits_) return;
  const Step& last = plan.steps.back();
  PackJob job{last.output, last.outputs, output, plan.output_bytes};
  job.input.words = scratch + scratch_.maps[plan.steps.size() % 2];
  kernels_.pack(job);
}

void Half::run(std::size_t plan_index, const std::uint8_t* input, std::size_t batch,
               std::uint8_t* output) const {
  const Prepared& plan = plans_[plan_index];
  std::uint8_t* scratch = memory.at_least(scratch_.size);
  for (std::size_t i = 0; i < batch; ++i) {
    decode(plan, input, scratch);
    for (std::size_t s = 0; s < plan.steps.size(); ++s) execute(plan, s, input, output, scratch);
    encode(plan, output, scratch);
    input += plan.input_bytes;
    output += plan.output_bytes;
  }
}

std::vector<double> Half::profile(std::size_t plan_index, const std::uint8_t* input,
                                  int repeats) const {
  using Clock = std::chrono::steady_clock;
  const Prepared& plan = plans_[plan_index];
  std::vector<std::uint8_t> output(plan.output_bytes);
  std::uint8_t* scratch = memory.at_least(scratch_.size);
  std::vector<double> seconds;
  const auto measure = [&](const auto& part) {
    const auto begin = Clock::now();
    for (int i = 0; i < repeats; ++i) part();
    const std::chrono::duration<double> elapsed = Clock::now() - begin;
    seconds.push_back(elapsed.count() / repeats);
  };
  measure([&] { decode(plan, input, scratch); });
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    measure([&] { execute(plan, s, input, output.data(), scratch); });
  }
  measure([&] { encode(plan, output.data(), scratch); });
  return seconds;
}

}  // namespace taper
