#include "image_engine.hpp"

#include <chrono>
#include <stdexcept>
#include <utility>

namespace taper {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration passed) { return std::chrono::duration<double>(passed).count(); }

}  // namespace

ImageEngine::ImageEngine(std::shared_ptr<const Half> device, std::shared_ptr<const Half> cloud,
                         std::string model, std::string version,
                         std::vector<std::size_t> image_shape,
                         std::size_t cloud_levels, std::size_t classes)
    : device_(std::move(device)),
      cloud_(std::move(cloud)),
      model_(std::move(model)),
      version_(std::move(version)),
      image_shape_(std::move(image_shape)),
      cloud_levels_(cloud_levels),
      classes_(classes) {
  std::size_t pixels = 1;
  for (const std::size_t side : image_shape_) pixels *= side;
  const std::size_t levels = device_->plan_count();
  const bool fits = device_->takes_pixels() && !device_->gives_logits() && cloud_->gives_logits() &&
                    levels > 0 && cloud_levels_ > 0 && classes_ > 0 &&
                    cloud_->plan_count() == levels * cloud_levels_ &&
                    device_->input_bytes(levels - 1) == pixels &&
                    device_->output_bytes(levels - 1) ==
                        cloud_->input_bytes((levels - 1) * cloud_levels_) &&
                    cloud_->output_bytes(0) == classes_ * sizeof(float);
  if (!fits) throw std::invalid_argument("image engine: the halves do not fit each other");
}

std::optional<EngineAnswer> ImageEngine::answer(std::string_view data, std::uint32_t cloud_level,
                                                std::size_t most) const {
  const auto request = read_image_request(data);
  return request ? answer(*request, cloud_level, most) : std::nullopt;
}

std::optional<EngineAnswer> ImageEngine::answer(const ImageRequest& request,
                                                std::uint32_t cloud_level,
                                                std::size_t most) const {
  thread_local std::vector<std::uint8_t> features;
  thread_local std::vector<float> logits;
  const auto began = Clock::now();
  if (cloud_level >= cloud_levels_ || !request.version.empty() ||
      (!request.model.empty() && request.model != model_) ||
      request.shape.size() != image_shape_.size() + 1) {
    return std::nullopt;
  }
  for (std::size_t axis = 0; axis < image_shape_.size(); ++axis) {
    if (request.shape[axis + 1] != image_shape_[axis]) return std::nullopt;
  }
  const std::size_t level = device_->plan_count() - 1;
  const std::uint64_t samples = request.shape[0];
  if (samples == 0 || samples > most ||
      request.pixels.size() != samples * device_->input_bytes(level)) {
    return std::nullopt;
  }
  features.resize(samples * device_->output_bytes(level));
  device_->run(level, reinterpret_cast<const std::uint8_t*>(request.pixels.data()), samples,
              features.data());
  const auto decoded = Clock::now();
  logits.resize(samples * classes_);
  cloud_->run(level * cloud_levels_ + cloud_level, features.data(), samples,
             reinterpret_cast<std::uint8_t*>(logits.data()));
  const auto ended = Clock::now();
  const ImageResponseHead head{model_, version_, request.id, cloud_level};
  return EngineAnswer{write_image_response(head, request.wants_probabilities, logits.data(),
                                           samples, classes_),
                      static_cast<std::uint32_t>(level),
                      0,
                      static_cast<std::uint32_t>(samples),
                      !request.model.empty(),
                      false,
                      seconds(decoded - began),
                      seconds(ended - decoded),
                      0,
                      std::nullopt,
                      0};
}

}  // namespace taper
