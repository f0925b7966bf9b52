#include "engine.hpp"

#include <chrono>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace taper {
namespace {

constexpr std::size_t kShortestVersion = 8;
constexpr std::uint32_t kLargestBatch = 1024;  // most samples of a request
constexpr double kTailBytes = 4;  // the context coder leaves out at most so many bytes at the end

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration passed) { return std::chrono::duration<double>(passed).count(); }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

bool unused_bits_are_zero(const std::uint8_t* packed, std::size_t samples, std::size_t size,
                          std::size_t bits) {
  if (bits % 8 == 0) return true;
  const int used = static_cast<int>(bits % 8);
  for (std::size_t s = 0; s < samples; ++s) {
    if (packed[(s + 1) * size - 1] >> used) return false;
  }
  return true;
}

Engine::Engine(std::shared_ptr<const Half> half, std::string model, std::string version,
               std::vector<EngineLevel> levels, std::size_t cloud_levels, std::size_t classes,
               std::size_t payload_slack)
    : half_(std::move(half)),
      model_(std::move(model)),
      version_(std::move(version)),
      levels_(std::move(levels)),
      most_samples_(new std::atomic<std::uint32_t>[levels_.size()]()),
      cloud_levels_(cloud_levels),
      classes_(classes),
      payload_slack_(payload_slack) {
  if (!half_->gives_logits() || levels_.empty() || cloud_levels_ == 0 ||
      half_->plan_count() != levels_.size() * cloud_levels_ || classes_ == 0 ||
      half_->output_bytes(0) != classes_ * sizeof(float)) {
    throw std::invalid_argument("engine: must have one plan of the half for each pair of levels");
  }
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    const std::size_t size = half_->input_bytes(level * cloud_levels_);
    const EngineLevel& of = levels_[level];
    if ((of.sample_bits + 7) / 8 != size || (of.coder && of.coder->sample_bytes() != size)) {
      throw std::invalid_argument("engine: sizes of a level do not fit each other");
    }
  }
}

void Engine::set_most_samples(const std::vector<std::uint32_t>& most) {
  if (most.size() != levels_.size()) {
    throw std::invalid_argument("engine: most_samples must have one value for each level");
  }
  for (std::size_t level = 0; level < most.size(); ++level) {
    most_samples_[level].store(most[level], std::memory_order_relaxed);
  }
}

bool Engine::is_ours(const InferRequest& request) const {
  if (!request.model.empty() && request.model != model_) return false;
  if (request.version.empty()) return true;
  if (request.version.size() < kShortestVersion || request.version.size() > version_.size()) {
    return false;
  }
  for (std::size_t i = 0; i < request.version.size(); ++i) {
    if (lower(request.version[i]) != version_[i]) return false;
  }
  return true;
}

void Engine::set_looks(std::vector<std::uint64_t> ask_below, std::uint32_t keep_ms) {
  if (ask_below.size() != levels_.size() * levels_.size()) {
    throw std::invalid_argument("engine: ask_below must have one value for each pair of levels");
  }
  ask_below_ = std::move(ask_below);
  keep_ms_ = keep_ms;
}

bool Engine::looks_are_right(const InferRequest& request) const {
  if (!request.looks || request.looks->earlier > 0) return true;
  return request.looks->next_level > request.level && request.looks->next_level < levels_.size();
}

bool Engine::is_right(const InferRequest& request) const {
  if (request.level >= levels_.size() || request.samples > kLargestBatch ||
      (request.cloud_level && *request.cloud_level >= cloud_levels_) || !looks_are_right(request)) {
    return false;
  }
  const EngineLevel& level = levels_[request.level];
  const std::size_t samples = request.samples == 0 ? 1 : request.samples;
  const std::size_t raw = samples * level.sample_bytes();
  if (request.encoding == kEncodingRaw) return request.payload.size() == raw;
  if (request.encoding != kEncodingContext || level.coder == nullptr) return false;
  const double least = static_cast<double>(samples * level.sample_bits) * least_bits_ / 8;
  return request.payload.size() <= raw + payload_slack_ &&
         static_cast<double>(request.payload.size()) >= std::floor(least) - kTailBytes;
}

std::optional<More> Engine::more(const InferRequest& request, const float* logits,
                                 std::size_t samples) const {
  if (!request.looks || request.looks->earlier > 0) return std::nullopt;
  const std::size_t pair = request.level * levels_.size() + request.looks->next_level;
  const std::uint64_t table = ask_below_.empty() ? 0 : ask_below_[pair];
  const std::uint64_t ask_below = request.looks->ask_below.value_or(table);
  More more{request.looks->next_level, keep_ms_, {}};
  for (std::size_t s = 0; s < samples; ++s) {
    if (margin_of(logits + s * classes_, classes_) < ask_below) {
      more.samples.push_back(static_cast<std::uint32_t>(s));
    }
  }
  if (more.samples.empty()) return std::nullopt;
  return more;
}

bool Engine::decode(const InferRequest& request, const EngineLevel& level, std::size_t samples,
                    std::vector<std::uint8_t>& features) const {
  const std::size_t size = level.sample_bytes();
  if (request.payload.size() > samples * size + payload_slack_) return false;
  features.resize(samples * size);
  const auto* payload = reinterpret_cast<const std::uint8_t*>(request.payload.data());
  if (request.encoding == kEncodingContext && level.coder != nullptr) {
    return level.coder->decode(payload, request.payload.size(), samples, features.data());
  }
  if (request.encoding != kEncodingRaw || request.payload.size() != features.size()) return false;
  std::memcpy(features.data(), payload, features.size());
  return unused_bits_are_zero(features.data(), samples, size, level.sample_bits);
}

std::optional<EngineAnswer> Engine::answer(std::string_view data, std::uint32_t cloud_level,
                                           std::optional<float> load, bool suggest_lower) const {
  const auto request = read_request(data);
  if (!request || !is_ours(*request)) return std::nullopt;
  return answer(*request, cloud_level, load, suggest_lower);
}

std::optional<EngineAnswer> Engine::answer(const InferRequest& request, std::uint32_t cloud_level,
                                           std::optional<float> load, bool suggest_lower) const {
  thread_local std::vector<std::uint8_t> features;
  thread_local std::vector<float> logits;
  const auto began = Clock::now();
  if (request.cloud_level || cloud_level >= cloud_levels_ || request.level >= levels_.size() ||
      !looks_are_right(request)) {
    return std::nullopt;
  }
  const EngineLevel& level = levels_[request.level];
  const std::uint32_t samples = request.samples == 0 ? 1 : request.samples;
  if (samples > most_samples_[request.level].load(std::memory_order_relaxed)) return std::nullopt;
  const std::size_t plan = request.level * cloud_levels_ + cloud_level;
  if (!decode(request, level, samples, features)) return std::nullopt;
  const auto decoded = Clock::now();
  logits.resize(samples * classes_);
  half_->run(plan, features.data(), samples, reinterpret_cast<std::uint8_t*>(logits.data()));
  const auto ended = Clock::now();

  ResponseHead head;
  head.id = request.id;
  head.cloud_level = cloud_level;
  head.compute_us = static_cast<std::uint32_t>(seconds(ended - began) * 1e6);
  head.load = load;
  if (load && suggest_lower) head.suggested_level = request.level == 0 ? 0 : request.level - 1;
  auto [response, asked] = respond(request, std::move(head), logits.data(), samples);
  return EngineAnswer{std::move(response),
                      request.level,
                      request.encoding,
                      samples,
                      !request.model.empty(),
                      !request.version.empty(),
                      seconds(decoded - began),
                      seconds(ended - decoded),
                      request.id,
                      request.looks ? std::optional(request.looks->earlier) : std::nullopt,
                      asked};
}

EngineResponse Engine::respond(const InferRequest& request, ResponseHead head,
                               const float* logits, std::size_t samples) const {
  // A server that is under load does not ask for further looks.
  if (!head.suggested_level) head.more = more(request, logits, samples);
  const auto asked = static_cast<std::uint32_t>(head.more ? head.more->samples.size() : 0);
  if (asked == samples) head.more->samples.clear();  // none means all
  return {write_response(head, logits, samples, classes_, request.top_k), asked};
}

}  // namespace taper
