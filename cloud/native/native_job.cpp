#include "native_job.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace taper {
namespace {

// Until a payload is decoded, it is assumed to be compressed by at most this factor.
constexpr std::size_t kLikelyCompression = 8;

std::size_t samples_of(const InferRequest& request) {
  return request.samples == 0 ? 1 : request.samples;
}

const std::uint8_t* bytes_of(const InferRequest& request) {
  return reinterpret_cast<const std::uint8_t*>(request.payload.data());
}

}  // namespace

NativeJob::NativeJob(const Engine& engine, std::string data, std::shared_ptr<StreamState> stream,
                     Done done)
    : engine_(engine),
      data_(std::move(data)),
      request_(*read_request(data_)),
      samples_(samples_of(request_)),
      stream_(std::move(stream)),
      done_(std::move(done)) {}

bool NativeJob::decode(std::size_t start, std::size_t stop, std::uint8_t* features) {
  const EngineLevel& level = engine_.level(request_.level);
  const std::size_t size = level.sample_bytes();
  if (request_.encoding == kEncodingRaw) {
    std::memcpy(features, bytes_of(request_) + start * size, (stop - start) * size);
    return unused_bits_are_zero(features, stop - start, size, level.sample_bits);
  }
  if (start == 0) {
    decoder_ = std::make_unique<ContextDecoder>(*level.coder, bytes_of(request_),
                                                request_.payload.size());
  }
  return decoder_->next(stop - start, features) && (stop < samples_ || decoder_->finished());
}

std::string NativeJob::complaint() const {
  if (request_.encoding == kEncodingRaw) return "payload: the unused bits after a sample must be 0";
  return "payload: is not what the context coder gives for " + std::to_string(samples_) +
         " samples of level " + std::to_string(request_.level);
}

void NativeJob::keep(std::size_t start, std::size_t stop, const float* logits) {
  const std::size_t classes = engine_.classes();
  // Allocated late, so that a request that only claims to have many samples takes no memory.
  if (logits_.empty()) logits_.resize(samples_ * classes);
  std::copy_n(logits, (stop - start) * classes, logits_.begin() + start * classes);
}

NativeJob::Done NativeJob::take_done() {
  if (taken_.exchange(true)) return nullptr;
  return std::move(done_);
}

JobSpec spec_of(std::shared_ptr<Model> model, const Engine& engine, const InferRequest& request) {
  const std::size_t samples = samples_of(request);
  JobSpec spec;
  spec.model = std::move(model);
  spec.level = static_cast<int>(request.level);
  if (request.cloud_level) spec.pinned = static_cast<int>(*request.cloud_level);
  spec.encoding = static_cast<int>(request.encoding);
  spec.samples = static_cast<std::int64_t>(samples);
  spec.sliced = request.encoding == kEncodingContext;
  spec.native = true;
  std::size_t expected = samples;
  if (spec.sliced) {
    const std::size_t raw = kLikelyCompression * (request.payload.size() + 1);
    expected = std::min(samples, 1 + raw / engine.level(request.level).sample_bytes());
  }
  spec.expected = static_cast<std::int64_t>(expected);
  return spec;
}

}  // namespace taper
