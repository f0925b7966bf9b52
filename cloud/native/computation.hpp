// Decoding and running native jobs.
#pragma once

#include <cstddef>

#include "batch.hpp"
#include "native_job.hpp"

namespace taper {

// What a job took that ran by itself.
struct Computed {
  double decode_s = 0.0;
  double run_s = 0.0;
  bool wrong = false;  // its payload is
};

// Decodes and runs all of a job, which keeps its logits.
Computed compute_alone(NativeJob& job, const Engine& engine, std::size_t cloud_level);

// Decodes and runs a batch of native jobs, which keep their logits; fills in the measurements.
void compute(Batch& batch);

}  // namespace taper
