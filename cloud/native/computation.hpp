// Decodes and runs native jobs.
#pragma once

#include <cstddef>

#include "batch.hpp"
#include "native_job.hpp"

namespace taper {

// The measurements of a job that ran alone.
struct Computed {
  double decode_s = 0.0;
  double run_s = 0.0;
  bool wrong = false;  // whether its payload is invalid
};

// Decodes and runs a whole job. Its logits are stored in the job.
Computed compute_alone(NativeJob& job, const Engine& engine, std::size_t cloud_level);

// Decodes and runs a batch of native jobs and sets the batch's measurements. The logits are stored
// in the jobs.
void compute(Batch& batch);

}  // namespace taper
