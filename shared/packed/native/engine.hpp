// A cloud half that computes serialised responses from serialised requests.
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

// Whether the unused bits at the end of each sample of `size` bytes are 0, as the protocol
// requires.
bool unused_bits_are_zero(const std::uint8_t* packed, std::size_t samples, std::size_t size,
                          std::size_t bits);

// The properties of one device level.
struct EngineLevel {
  std::shared_ptr<const ContextCoder> coder;  // null: coded requests are left to the caller
  std::size_t sample_bits;

  std::size_t sample_bytes() const { return (sample_bits + 7) / 8; }
};

// A response, the properties of its request, and the seconds of decoding and running.
struct EngineAnswer {
  std::string response;
  std::uint32_t level;
  std::uint32_t encoding;
  std::uint32_t samples;
  bool names_model;    // whether the request names its model
  bool names_version;
  double decode_s;
  double run_s;
  std::uint64_t id = 0;
  std::optional<std::uint32_t> earlier_looks;  // number of earlier looks, if the request has `looks`
  std::uint32_t asked = 0;                     // number of samples at which another look is wanted
};

// A response, and the number of samples at which another look is wanted.
struct EngineResponse {
  std::string response;
  std::uint32_t asked;
};

// Any thread may call any method, except that `set_looks` and `set_least_bits` must be called
// before the engine is shared. The half's plan of a pair of levels is number level * cloud_levels +
// cloud_level.
class Engine {
 public:
  Engine(std::shared_ptr<const Half> half, std::string model, std::string version,
         std::vector<EngineLevel> levels, std::size_t cloud_levels, std::size_t classes, std::size_t payload_slack);

  // Limits the number of samples of a request by level; larger ones are left to the caller. Before
  // the first call, all requests are.
  void set_most_samples(const std::vector<std::uint32_t>& most);

  // Margins below which another look is wanted, at [level * levels + next level]; 0 means never.
  void set_looks(std::vector<std::uint64_t> ask_below, std::uint32_t keep_ms);

  // The least number of bits that the context coder writes for a bit.
  void set_least_bits(double bits) { least_bits_ = bits; }

  // Parses a request, decodes its payload, runs the half and serialises the response. Returns
  // nothing for a request that is invalid or unusual (another model, a pinned cloud level, too many
  // samples), which is left to the caller.
  std::optional<EngineAnswer> answer(std::string_view request, std::uint32_t cloud_level,
                                     std::optional<float> load, bool suggest_lower) const;

  // The same for a parsed request. The model and version that it names are not checked.
  std::optional<EngineAnswer> answer(const InferRequest& request, std::uint32_t cloud_level,
                                     std::optional<float> load, bool suggest_lower) const;

  // Whether a request names this model and version, or none.
  bool is_ours(const InferRequest& request) const;

  // Whether a request is valid, except perhaps for the bits of its payload, and can be answered
  // here.
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
