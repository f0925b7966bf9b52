#include "model.hpp"

#include <chrono>
#include <stdexcept>
#include <utility>

namespace taper {
namespace {

constexpr std::uint32_t kLargestAtOnce = 32;  // most samples of a request that runs at once

std::uint64_t next_number() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

double unix_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Model::Model(std::string name, std::string version, std::vector<double> cloud_fractions,
             std::vector<std::vector<double>> macs)
    : costs(std::move(macs)),
      name_(std::move(name)),
      version_(std::move(version)),
      cloud_fractions_(std::move(cloud_fractions)),
      number_(next_number()) {
  if (cloud_fractions_.size() != costs.cloud_levels()) {
    throw std::invalid_argument("cloud_fractions: must be one for each cloud level");
  }
}

void Model::set_engine(std::shared_ptr<Engine> engine) {
  if (engine_now_.load() != nullptr) throw std::invalid_argument("engine: is set already");
  engine_ = std::move(engine);
  engine_now_.store(engine_.get(), std::memory_order_release);
}

void Model::set_image_engine(std::shared_ptr<ImageEngine> engine) {
  if (image_engine_now_.load() != nullptr) throw std::invalid_argument("engine: is set already");
  image_engine_ = std::move(engine);
  image_engine_now_.store(image_engine_.get(), std::memory_order_release);
}

void Model::limit_engines(std::size_t cloud_level, double budget_s) {
  const std::size_t levels = costs.levels();
  most_images_.store(costs.most_samples(kImages, levels - 1, cloud_level, budget_s, kLargestAtOnce),
                     std::memory_order_relaxed);
  Engine* const engine = this->engine();
  if (engine == nullptr) return;
  std::vector<std::uint32_t> most(levels);
  for (std::size_t level = 0; level < levels; ++level) {
    most[level] = costs.most_samples(kContext, level, cloud_level, budget_s, kLargestAtOnce);
  }
  engine->set_most_samples(most);
}

std::size_t Model::level_for(double fraction) const {
  // Allows for rounding in fractions that should be equal.
  constexpr double kSlack = 1e-9;
  for (std::size_t level = 0; level + 1 < cloud_fractions_.size(); ++level) {
    if (cloud_fractions_[level] >= fraction - kSlack) return level;
  }
  return cloud_fractions_.size() - 1;
}

Statistics Model::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void Model::count_answered(double queue_s, double compute_s) {
  const std::lock_guard lock(mutex_);
  ++statistics_.requests;
  statistics_.queue_s += queue_s;
  statistics_.compute_s += compute_s;
  statistics_.last_unix_s = unix_s();
}

void Model::count_at_once(std::int64_t jobs, std::int64_t samples, double seconds) {
  const std::lock_guard lock(mutex_);
  statistics_.requests += jobs;
  statistics_.batches += jobs;
  statistics_.samples += jobs * samples;
  statistics_.compute_s += seconds;
  statistics_.last_unix_s = unix_s();
}

void Model::count_failed(double seconds) {
  const std::lock_guard lock(mutex_);
  ++statistics_.failures;
  statistics_.failure_s += seconds;
}

void Model::count_batch(std::int64_t samples) {
  const std::lock_guard lock(mutex_);
  ++statistics_.batches;
  statistics_.samples += samples;
}

}  // namespace taper
