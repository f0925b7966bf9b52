// A served model: its levels, the cost of computing them, statistics of its answers, and the
// engines that answer without Python.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "costs.hpp"
#include "engine.hpp"
#include "image_engine.hpp"

namespace taper {

// Encodings in costs: images, whose device half the server runs, and the protocol's Encoding.
constexpr int kImages = 0;
constexpr int kRaw = 1;
constexpr int kZstd = 2;
constexpr int kContext = 3;

// The answers and failures of a model since it was loaded.
struct Statistics {
  std::int64_t requests = 0;
  std::int64_t failures = 0;
  double failure_s = 0.0;
  std::int64_t samples = 0;
  std::int64_t batches = 0;
  double queue_s = 0.0;
  double compute_s = 0.0;
  double last_unix_s = 0.0;
};

// Any thread may call any method. Releasing the last reference may run Python destructors, so the
// dispatcher holds every model and releases unused ones in its tick.
class Model : public std::enable_shared_from_this<Model> {
 public:
  // `macs[level][cloud_level]`: see CostModel. Throws std::invalid_argument unless there is one
  // fraction for each cloud level.
  Model(std::string name, std::string version, std::vector<double> cloud_fractions,
        std::vector<std::vector<double>> macs);

  const std::string& name() const { return name_; }
  const std::string& version() const { return version_; }
  const std::vector<double>& cloud_fractions() const { return cloud_fractions_; }
  std::uint64_t number() const { return number_; }  // unique in this process

  CostModel costs;

  // Engines that compute a serialised response from a serialised request; null until they are set.
  void set_engine(std::shared_ptr<Engine> engine);
  void set_image_engine(std::shared_ptr<ImageEngine> engine);
  Engine* engine() const { return engine_now_.load(std::memory_order_acquire); }
  ImageEngine* image_engine() const { return image_engine_now_.load(std::memory_order_acquire); }

  // Limits the engines to requests that are predicted to take at most `budget_s`.
  void limit_engines(std::size_t cloud_level, double budget_s);
  std::uint32_t most_images() const { return most_images_.load(std::memory_order_relaxed); }

  // The index of the smallest cloud fraction that is at least `fraction`.
  std::size_t level_for(double fraction) const;

  Statistics statistics() const;
  void count_answered(double queue_s, double compute_s);
  void count_at_once(std::int64_t jobs, std::int64_t samples, double seconds);
  void count_failed(double seconds);
  void count_batch(std::int64_t samples);

 private:
  std::string name_;
  std::string version_;
  std::vector<double> cloud_fractions_;
  std::uint64_t number_;
  std::atomic<std::uint32_t> most_images_{0};
  std::shared_ptr<Engine> engine_;  // both are set at most once, and then read without a lock
  std::shared_ptr<ImageEngine> image_engine_;
  std::atomic<Engine*> engine_now_{nullptr};
  std::atomic<ImageEngine*> image_engine_now_{nullptr};
  mutable std::mutex mutex_;
  Statistics statistics_;
};

}  // namespace taper
