#include "computation.hpp"

#include <chrono>
#include <cstdint>
#include <vector>

namespace taper {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

// Memory of this thread, as large as its largest batch so far needed.
struct Scratch {
  std::vector<std::uint8_t> features;
  std::vector<float> logits;
};

Scratch& scratch() {
  thread_local Scratch scratch;
  return scratch;
}

// Runs the decoded samples in the scratch memory; returns the seconds that this took.
double run(const Engine& engine, std::size_t level, std::size_t cloud_level, std::size_t samples) {
  auto& [features, logits] = scratch();
  logits.resize(samples * engine.classes());
  const auto began = Clock::now();
  engine.half().run(engine.plan(level, cloud_level), features.data(), samples,
                    reinterpret_cast<std::uint8_t*>(logits.data()));
  return seconds_since(began);
}

}  // namespace

Computed compute_alone(NativeJob& job, const Engine& engine, std::size_t cloud_level) {
  const std::size_t level = job.request().level;
  const std::size_t samples = job.samples();
  auto& [features, logits] = scratch();
  features.resize(samples * engine.level(level).sample_bytes());
  Computed computed;
  const auto began = Clock::now();
  computed.wrong = !job.decode(0, samples, features.data());
  computed.decode_s = seconds_since(began);
  if (computed.wrong) return computed;
  computed.run_s = run(engine, level, cloud_level, samples);
  job.keep(0, samples, logits.data());
  return computed;
}

void compute(Batch& batch) {
  const Engine& engine = *batch.model->engine();
  const auto level = static_cast<std::size_t>(batch.key.level);
  const std::size_t size = engine.level(level).sample_bytes();
  auto& [features, logits] = scratch();
  std::size_t decoded = 0;
  for (const Slice& slice : batch.slices) {
    auto& job = static_cast<NativeJob&>(*Batch::job(slice).work);
    const auto samples = static_cast<std::size_t>(slice.samples());
    features.resize((decoded + samples) * size);
    const auto began = Clock::now();
    const bool right = job.decode(static_cast<std::size_t>(slice.start),
                                  static_cast<std::size_t>(slice.stop),
                                  features.data() + decoded * size);
    const double decode_s = seconds_since(began);
    batch.model->costs.learn_decode(static_cast<int>(job.request().encoding), level,
                                    static_cast<double>(samples), decode_s);
    batch.measured.push_back({decode_s, !right, false});
    if (right) decoded += samples;
  }
  if (decoded == 0) return;
  batch.run_s = run(engine, level, batch.cloud_level, decoded);
  batch.computed = static_cast<std::int64_t>(decoded);
  const float* row = logits.data();
  for (std::size_t place = 0; place < batch.slices.size(); ++place) {
    if (batch.measured[place].failed) continue;
    const Slice& slice = batch.slices[place];
    auto& job = static_cast<NativeJob&>(*Batch::job(slice).work);
    job.keep(static_cast<std::size_t>(slice.start), static_cast<std::size_t>(slice.stop), row);
    row += static_cast<std::size_t>(slice.samples()) * engine.classes();
  }
}

}  // namespace taper
