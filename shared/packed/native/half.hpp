// One half of a network: the stages that a device or a cloud server runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "jobs.hpp"
#include "prepare.hpp"

namespace taper {

// One configuration of a half: its number of input channels and of outputs of each stage. Each plan
// has its own row of thresholds.
struct Plan {
  int in_channels;
  std::vector<int> outputs;
};

// A half as the binding describes it. The input is uint8 pixels (height, width, channels) if the
// first stage is an image stage, else packed bits of `plan.in_channels` channels.
struct HalfSpec {
  int height;
  int width;
  int channels;
  std::vector<Stage> stages;
  std::vector<Plan> plans;  // one for each row of the stages' tables
};

// Immutable, so that any number of threads may call `run` at the same time.
class Half {
 public:
  // Throws std::invalid_argument, with the expected value, for inconsistent sizes.
  Half(const HalfSpec& spec, const Kernels& kernels);

  // Runs `batch` samples of plan.input_bytes each, and writes output_bytes for each. Takes no lock
  // and, after a thread's first call, allocates no memory.
  void run(std::size_t plan, const std::uint8_t* input, std::size_t batch,
           std::uint8_t* output) const;

  // Measures the seconds of unpacking the input, of each stage, and of packing the output, in
  // order.
  std::vector<double> profile(std::size_t plan, const std::uint8_t* input, int repeats) const;

  std::size_t plan_count() const { return plans_.size(); }
  std::size_t input_bytes(std::size_t plan) const { return plans_[plan].input_bytes; }
  std::size_t output_bytes(std::size_t plan) const { return plans_[plan].output_bytes; }
  bool takes_pixels() const { return takes_pixels_; }
  bool gives_logits() const { return gives_logits_; }
  const Kernels& kernels() const { return kernels_; }

 private:
  struct Step {
    std::shared_ptr<const Weights> weights;
    Map input{};
    Map reached{};
    Map output{};
    int pool = 1;
    int stride = 1;
    int outputs = 0;
    std::size_t gathered = 0;  // number of pixels of a sample in columns; 0 if there are none
    std::vector<std::uint32_t> limits;
    std::vector<std::uint32_t> low_limits;  // of a ternary stage's lower bits
    std::vector<std::uint32_t> flips;
    std::vector<std::int32_t> thresholds;  // linear stages that give bits
    std::vector<std::int32_t> low_thresholds;
    std::vector<float> scale;              // stages that give logits
    std::vector<float> bias;

    bool ternary() const { return !low_limits.empty() || !low_thresholds.empty(); }
  };
  struct Prepared {
    int in_channels = 0;
    std::size_t input_bytes = 0;
    std::size_t output_bytes = 0;
    std::vector<Step> steps;
  };
  // The offset of each buffer in a thread's scratch memory.
  struct Scratch {
    std::size_t maps[2] = {0, 0};
    std::size_t map_bytes = 0;  // of one sample
    std::size_t reached = 0;
    std::size_t partial = 0;
    std::size_t extra = 0;
    std::size_t rows = 0;
    std::size_t size = 0;
  };

  // What the samples of a group are executed with.
  struct Group {
    std::size_t samples;
    const std::uint8_t* input;
    std::uint8_t* output;
    std::uint8_t* scratch;
  };

  void lay_out();
  // The input, or the output, of a step for a sample of the group.
  Map map_of(const Map& map, std::size_t step, std::size_t sample, std::uint8_t* scratch) const;
  void decode(const Prepared& plan, const Group& group) const;
  void execute(const Prepared& plan, std::size_t step, const Group& group) const;
  void execute_one(const Prepared& plan, std::size_t step, const Group& group,
                   std::size_t sample) const;
  void execute_gathered(const Prepared& plan, std::size_t step, const Group& group) const;
  void count(const Step& step, const Taps& input, const Map& reached, std::uint8_t* scratch) const;
  void finish(const Step& step, const Map& reached, const Map& output, std::uint8_t* scratch) const;
  void linear(const Step& step, const Map& input, const Map& reached, std::uint8_t* output,
              std::uint8_t* scratch) const;
  void encode(const Prepared& plan, const Group& group) const;

  const Kernels& kernels_;
  bool takes_pixels_;
  bool gives_logits_;
  int channels_;
  std::size_t group_;  // the most samples that are executed together
  std::vector<Prepared> plans_;
  Scratch scratch_;
};

}  // namespace taper
