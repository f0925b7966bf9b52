// A cloud half that answers requests from bytes to bytes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coder.hpp"
#include "half.hpp"
#include "messages.hpp"

namespace taper {

constexpr std::uint32_t kEncodingRaw = 1;  // values of the protocol's Encoding
constexpr std::uint32_t kEncodingContext = 3;

// Whether the bits after the last of each sample of `size` bytes are 0, as they must be.
bool unused_bits_are_zero(const std::uint8_t* packed, std::size_t samples, std::size_t size,
                          std::size_t bits);

// What the engine knows of one device level.
struct EngineLevel {
  std::shared_ptr<const ContextCoder> coder;  // null: its encoding is left to the caller
  std::size_t sample_bits;

  std::size_t sample_bytes() const { return (sample_bits + 7) / 8; }
};

// An answer, and the seconds that its parts took.
struct EngineAnswer {
  std::string response;
  std::uint32_t level;
  std::uint32_t encoding;
  std::uint32_t samples;
  bool names_model;    // the request does
  bool names_version;
  double decode_s;
  double run_s;
  std::uint64_t id = 0;
  std::optional<std::uint32_t> earlier_looks;  // of requests that say something of looks
  std::uint32_t asked = 0;                     // samples at which another look is wanted
};

// A response, and at how many samples another look is wanted.
struct EngineResponse {
  std::string response;
  std::uint32_t asked;
};

// Any thread may call any method but `set_looks` and `set_least_bits`, which belong to making it. Plan
// level * cloud_levels + cloud_level of the half belongs to a pair of levels.
class Engine {
 public:
  Engine(std::shared_ptr<const Half> half, std::string model, std::string version,
         std::vector<EngineLevel> levels, std::size_t cloud_levels, std::size_t classes, std::size_t payload_slack);

  // Leaves requests of more samples than this to the caller, by level; at first all of them.
  void set_most_samples(const std::vector<std::uint32_t>& most);

  // Margins below which another look is wanted, at [level * levels + next level]; 0 means never.
  void set_looks(std::vector<std::uint64_t> ask_below, std::uint32_t keep_ms);

  // The least that the context coder writes for a bit.
  void set_least_bits(double bits) { least_bits_ = bits; }

  // Parses, decodes, runs and serialises. Nothing for a request that is wrong or out of the ordinary
  // (another model, a pinned cloud level, too many samples): the caller says what is to be said.
  std::optional<EngineAnswer> answer(std::string_view request, std::uint32_t cloud_level,
                                     std::optional<float> load, bool suggest_lower) const;

  // The same for a request that was read; whose model and version it names is not looked at.
  std::optional<EngineAnswer> answer(const InferRequest& request, std::uint32_t cloud_level,
                                     std::optional<float> load, bool suggest_lower) const;

  // Whether a request names this model and version, or none.
  bool is_ours(const InferRequest& request) const;

  // Whether nothing can be wrong with a request but the bits of its payload, and all that it asks for
  // can be done here.
  bool is_right(const InferRequest& request) const;

  // The response to a request with these logits (samples, classes).
  EngineResponse respond(const InferRequest& request, ResponseHead head, const float* logits,
                         std::size_t samples) const;

  const Half& half() const { return *half_; }
  const EngineLevel& level(std::size_t level) const { return levels_[level]; }
  std::size_t plan(std::size_t level, std::size_t cloud_level) const {
    return level * cloud_levels_ + cloud_level;
  }
  std::size_t classes() const { return classes_; }

 private:
  bool looks_are_right(const InferRequest& request) const;
  std::optional<More> more(const InferRequest& request, const float* logits,
                           std::size_t samples) const;
  bool decode(const InferRequest& request, const EngineLevel& level, std::size_t samples,
              std::vector<std::uint8_t>& features) const;

  std::shared_ptr<const Half> half_;
  std::string model_;
  std::string version_;
  std::vector<EngineLevel> levels_;
  std::unique_ptr<std::atomic<std::uint32_t>[]> most_samples_;
  std::size_t cloud_levels_;
  std::size_t classes_;
  std::size_t payload_slack_;  // bytes that a coded payload may have beyond the raw bits
  std::vector<std::uint64_t> ask_below_;
  std::uint32_t keep_ms_ = 0;
  double least_bits_ = 0.0;
};

}  // namespace taper
