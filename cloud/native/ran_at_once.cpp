#include "ran_at_once.hpp"

#include <algorithm>

namespace taper {
namespace {

constexpr std::size_t kAccountedAt = 64;

bool same_kind(const RanAtOnce& a, const RanAtOnce& b) {
  return a.model == b.model && a.level == b.level && a.pinned == b.pinned &&
         a.encoding == b.encoding && a.samples == b.samples && a.cloud_level == b.cloud_level;
}

}  // namespace

bool RanAtOnceCounts::add(const RanAtOnce& job) {
  const auto same = [&job](const Kind& kind) { return same_kind(kind.of, job); };
  auto kind = std::find_if(kinds_.begin(), kinds_.end(), same);
  if (kind == kinds_.end()) {
    kind = kinds_.insert(kinds_.end(), {job, {}});
    kind->seconds.reserve(kAccountedAt);
  } else {
    kind->of.decode_s += job.decode_s;
    kind->of.run_s += job.run_s;
  }
  kind->seconds.push_back(job.decode_s + job.run_s);
  return ++jobs_ >= kAccountedAt;
}

std::vector<std::shared_ptr<Model>> RanAtOnceCounts::count(double now_s, LoadMonitor& load,
                                                        Counters& counters) {
  std::vector<std::shared_ptr<Model>> models;
  for (const Kind& kind : kinds_) {
    const RanAtOnce& of = kind.of;
    const auto jobs = static_cast<std::int64_t>(kind.seconds.size());
    const auto count = static_cast<double>(jobs);
    const auto samples = static_cast<double>(of.samples);
    const auto level = static_cast<std::size_t>(of.level);
    if (of.encoding != kDecodingCounted) {
      of.model->costs.learn_decode(of.encoding, level, samples, of.decode_s / count);
    }
    of.model->costs.learn_run(level, of.cloud_level, samples, of.run_s / count);
    load.offer({of.model->number(), of.level, of.pinned, false}, jobs * of.samples, of.decode_s,
               jobs);
    for (const double seconds : kind.seconds) {
      load.answered(now_s, seconds);
      counters.compute_s.add(seconds);
      counters.latency_s.add(seconds);
    }
    counters.batch_samples.add(samples, jobs);
    counters.queue_s.add(0.0, jobs);
    counters.samples[{of.model->name(), of.model->cloud_fractions()[of.cloud_level]}] +=
        jobs * of.samples;
    of.model->count_at_once(jobs, of.samples, of.decode_s + of.run_s);
    if (std::find(models.begin(), models.end(), of.model) == models.end()) {
      models.push_back(of.model);
    }
  }
  kinds_.clear();
  jobs_ = 0;
  return models;
}

}  // namespace taper
