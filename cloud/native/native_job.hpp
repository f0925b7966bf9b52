// A request that is decoded and computed without Python, a slice at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "batch.hpp"
#include "coder.hpp"
#include "engine.hpp"
#include "outcome.hpp"
#include "stream_state.hpp"

namespace taper {

class NativeJob : public Work {
 public:
  using Done = std::function<void(Outcome&&)>;

  // `data` is a serialised request that `engine` has validated.
  NativeJob(const Engine& engine, std::string data, std::shared_ptr<StreamState> stream, Done done);

  const InferRequest& request() const { return request_; }
  std::size_t samples() const { return samples_; }
  const std::shared_ptr<StreamState>& stream() const { return stream_; }

  // Writes the features of samples `start` to `stop` to `features`; false if the payload is
  // invalid. Slices must be decoded in order, by one thread at a time.
  bool decode(std::size_t start, std::size_t stop, std::uint8_t* features);

  // Why the payload is invalid.
  std::string complaint() const;

  // Keeps the logits of samples `start` to `stop`.
  void keep(std::size_t start, std::size_t stop, const float* logits);
  const float* logits() const { return logits_.data(); }

  // Takes the callback. Only the first caller gets it, and answers; all others get an empty one.
  Done take_done();

 private:
  const Engine& engine_;
  std::string data_;
  InferRequest request_;
  std::size_t samples_;
  std::shared_ptr<StreamState> stream_;
  std::unique_ptr<ContextDecoder> decoder_;
  std::vector<float> logits_;
  std::atomic<bool> taken_{false};
  Done done_;
};

// The properties of a request that the dispatcher needs.
JobSpec spec_of(std::shared_ptr<Model> model, const Engine& engine, const InferRequest& request);

}  // namespace taper
