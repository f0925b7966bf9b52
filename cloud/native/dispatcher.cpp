#include "dispatcher.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

namespace taper {
namespace {

// The longest predicted time of a job that runs at once. It delays others by about as long as a
// call costs anyway; or, while only one client asks, by about as long as a batch takes.
constexpr double kInlineS = 100e-6;
constexpr double kAloneS = 300e-6;
constexpr int kCompanyTicks = 2;  // ticks without a change of client until a client counts as alone

}  // namespace

Dispatcher::Dispatcher(const DispatcherSettings& settings)
    : limits_{settings.max_queue, settings.objective_s},
      queue_(settings.max_batch, settings.max_delay_s),
      load_(settings.objective_s, settings.fraction, settings.threads) {}

void Dispatcher::serve(double now_s, const std::vector<std::shared_ptr<Model>>& models) {
  const Lock lock(mutex_);
  settle(now_s);
  load_.serve(models);
  for (const auto& model : models) model->limit_engines(load_.level_of(model), inline_s());
}

std::optional<Dispatcher::Permit> Dispatcher::may_run_at_once(const std::shared_ptr<Model>& model,
                                                              std::string_view client) {
  const Lock lock(mutex_);
  note(client);
  if (!running_.empty()) {
    if (queue_.waits(client)) return std::nullopt;
    for (const auto& batch : running_) {
      if (!batch->may_pass(client)) return std::nullopt;
    }
  }
  const auto load = load_.hinted_load();
  return Permit{load_.level_of(model), load ? std::optional<float>(*load) : std::nullopt,
                load_.crowded()};
}

void Dispatcher::ran_at_once(double now_s, std::string_view client, const RanAtOnce& job) {
  const Lock lock(mutex_);
  for (const auto& batch : running_) batch->passed(client, job.decode_s + job.run_s);
  if (at_once_.add(job)) settle(now_s);
}

Verdict Dispatcher::submit(double now_s, const JobSpec& job, std::string_view client,
                           double remaining_s, std::unique_ptr<Work>* work) {
  const Lock lock(mutex_);
  const Key key{job.model->number(), job.level, job.pinned, job.native};
  const std::size_t unpinned = load_.level_of(job.model);  // also makes the model known to `load_`
  const std::size_t cloud_level =
      job.pinned == kNotPinned ? unpinned : static_cast<std::size_t>(job.pinned);
  const CostModel& costs = job.model->costs;
  const auto level = static_cast<std::size_t>(job.level);
  const auto expected = static_cast<double>(job.expected);
  const double decode_s = costs.decode_s(job.encoding, level, expected);
  const double predicted_s = decode_s + costs.run_s(level, cloud_level, expected);
  Verdict verdict;
  if (running_.empty() && queue_.requests() == 0) {
    note(client);
    if (predicted_s <= inline_s() && predicted_s <= remaining_s) {
      verdict.at_once = cloud_level;
      return verdict;
    }
  }
  verdict.rejected = admit(now_s, key, *job.model, client, job.expected, predicted_s, remaining_s);
  if (verdict.rejected) return verdict;
  auto queued = std::make_shared<Queued>(key, std::string(client), job.samples, now_s,
                                         now_s + remaining_s);
  const double sample_s = costs.sample_s(level, cloud_level);
  queued->number = ++last_number_;
  queued->model = job.model;
  if (work != nullptr) queued->work = std::move(*work);
  queued->expected = job.expected;
  queued->once_s = job.sliced ? 0.0 : decode_s;
  queued->sample_s = std::max(job.sliced ? sample_s + decode_s / expected : sample_s, 1e-9);
  queue_.put(queued);
  update_level(now_s, false);
  verdict.queued = std::move(queued);
  return verdict;
}

Dispatcher::Next Dispatcher::take(double now_s, bool native) {
  const Lock lock(mutex_);
  Next next;
  while (next.batch == nullptr) {
    auto slices = queue_.take(now_s, native);
    if (slices.empty()) return next;
    auto batch = std::make_shared<Batch>();
    batch->key = slices.front().item->key;
    batch->model = Batch::job(slices.front()).model;
    batch->cloud_level = load_.cloud_level(batch->key);
    double ends_s = now_s;
    for (const Slice& slice : slices) ends_s += slice.predicted_s();
    ends_s += batch->model->costs.run_s(static_cast<std::size_t>(batch->key.level),
                                        batch->cloud_level, 0);
    batch->ends_s = ends_s;
    for (Slice& slice : slices) {
      if (ends_s > slice.item->deadline_s) {
        queue_.drop(slice.item);
        counters_.refusals[name_of(RejectReason::kLate)] += 1;
        batch->model->count_failed(now_s - slice.item->arrived_s);
        next.late.push_back(std::static_pointer_cast<Queued>(slice.item));
        continue;
      }
      if (slice.stop < slice.item->samples) queue_.hold(slice.item);
      batch->client_s[slice.item->client] += slice.predicted_s();
      batch->slices.push_back(std::move(slice));
    }
    if (batch->slices.empty()) continue;
    running_.push_back(batch);
    next.batch = std::move(batch);
  }
  return next;
}

void Dispatcher::finish(const Batch& batch) {
  const Lock lock(mutex_);
  const auto running = std::find_if(running_.begin(), running_.end(),
                                    [&batch](const auto& one) { return one.get() == &batch; });
  if (running != running_.end()) running_.erase(running);
  double decode_s = 0.0;
  for (std::size_t place = 0; place < batch.slices.size(); ++place) {
    const Slice& slice = batch.slices[place];
    const Measured measured = place < batch.measured.size() ? batch.measured[place] : Measured{};
    queue_.release(slice.item);
    if (batch.failed || measured.failed) queue_.drop(slice.item);  // so that no further slice starts
    if (batch.failed) {
      batch.model->count_failed(Batch::job(slice).compute_s);
      continue;
    }
    double seconds = measured.decode_s;
    if (!measured.failed) {
      seconds += batch.run_s * static_cast<double>(slice.samples()) /
                 static_cast<double>(std::max<std::int64_t>(batch.computed, 1));
      Batch::job(slice).compute_s += batch.run_s;
      if (measured.decoded) queue_.decoded(slice.item);
      decode_s += measured.decode_s;
    }
    Batch::job(slice).compute_s += measured.decode_s;
    queue_.charge(slice.item->client, seconds - slice.predicted_s());
  }
  if (!batch.failed) count_batch(batch, decode_s);
}

// Counts a computed batch, and its verified work as demand.
void Dispatcher::count_batch(const Batch& batch, double decode_s) {
  const auto level = static_cast<std::size_t>(batch.key.level);
  if (batch.computed > 0) {
    load_.offer(batch.key, batch.computed, decode_s);
    batch.model->costs.learn_run(level, batch.cloud_level, static_cast<double>(batch.computed),
                                 batch.run_s);
  }
  counters_.batch_samples.add(static_cast<double>(batch.computed));
  counters_.compute_s.add(decode_s + batch.run_s);
  counters_.samples[{batch.model->name(), batch.model->cloud_fractions()[batch.cloud_level]}] +=
      batch.computed;
  batch.model->count_batch(batch.computed);
}

double Dispatcher::answered(double now_s, const Queued& job) {
  const Lock lock(mutex_);
  const double sojourn_s = now_s - job.arrived_s;
  const double queue_s = std::max(sojourn_s - job.compute_s, 0.0);
  counters_.queue_s.add(queue_s);
  counters_.latency_s.add(queue_s + job.compute_s);
  job.model->count_answered(queue_s, job.compute_s);
  load_.answered(now_s, sojourn_s);
  return queue_s;
}

void Dispatcher::refused(double now_s, const QueuedPtr& job, const char* reason) {
  const Lock lock(mutex_);
  queue_.drop(job);
  counters_.refusals[reason] += 1;
  job->model->count_failed(now_s - job->arrived_s);
}

void Dispatcher::refused(Model& model, const char* reason, double seconds) {
  const Lock lock(mutex_);
  counters_.refusals[reason] += 1;
  model.count_failed(seconds);
}

bool Dispatcher::withdraw(const QueuedPtr& job) {
  const Lock lock(mutex_);
  return queue_.drop(job);
}

void Dispatcher::observe(double now_s) {
  const Lock lock(mutex_);
  update_level(now_s, false);
}

void Dispatcher::tick(double now_s, double busy, double lag_s) {
  std::vector<std::shared_ptr<Model>> unused;  // declared first, so that it is released unlocked
  const Lock lock(mutex_);
  company_ = std::max(company_ - 1, 0);
  update_level(now_s, true);
  load_.tick(now_s, busy, lag_s);
  unused = load_.unused();
}

void Dispatcher::account(double now_s) {
  const Lock lock(mutex_);
  settle(now_s);
}

void Dispatcher::count_request(int status, std::size_t received_bytes, std::size_t sent_bytes) {
  const Lock lock(mutex_);
  counters_.requests[status] += 1;
  counters_.named["bytes_received"] += static_cast<std::int64_t>(received_bytes);
  counters_.named["bytes_sent"] += static_cast<std::int64_t>(sent_bytes);
}

void Dispatcher::count_named(const char* name, std::int64_t count) {
  const Lock lock(mutex_);
  counters_.named[name] += count;
}

double Dispatcher::fraction() const {
  const Lock lock(mutex_);
  return load_.fraction();
}

double Dispatcher::load(double now_s) {
  const Lock lock(mutex_);
  return load_.load(now_s);
}

std::optional<Hints> Dispatcher::hints_for(int level) const {
  const Lock lock(mutex_);
  return load_.hints_for(level);
}

bool Dispatcher::running() const {
  const Lock lock(mutex_);
  return !running_.empty();
}

std::pair<std::int64_t, std::int64_t> Dispatcher::queued() const {
  const Lock lock(mutex_);
  return {queue_.requests(), queue_.samples()};
}

Counters Dispatcher::counters() const {
  const Lock lock(mutex_);
  return counters_;
}

double Dispatcher::inline_s() const { return company_ > 0 ? kInlineS : kAloneS; }

// Notes which client asks, to know whether it is the only one.
void Dispatcher::note(std::string_view client) {
  if (client == last_client_) return;
  last_client_.assign(client);
  company_ = kCompanyTicks;
}

// Counts the jobs that ran at once.
void Dispatcher::settle(double now_s) {
  for (const auto& model : at_once_.count(now_s, load_, counters_)) {
    model->limit_engines(load_.level_of(model), inline_s());
  }
}

// Predicted seconds until all running and waiting jobs are done, at each fraction.
std::vector<double> Dispatcher::delays_s(double now_s) const {
  double rest_s = 0.0;
  for (const auto& batch : running_) rest_s += std::max(batch->ends_s - now_s, 0.0);
  return load_.delays_s(rest_s, queue_.once_s(), queue_.by_key());
}

std::optional<Rejection> Dispatcher::admit(double now_s, const Key& key, Model& model,
                                           std::string_view client, std::int64_t samples,
                                           double work_s, double remaining_s) {
  const std::int64_t own = queue_.client_samples(client);
  const auto delays = delays_s(now_s);
  const QueueState state{queue_.samples(), own, queue_.clients() - (own > 0 ? 1 : 0),
                         delays.front(), delays[load_.rung()]};
  const auto reason = reject_reason(state, limits_, samples, work_s, remaining_s);
  if (!reason) return std::nullopt;
  counters_.refusals[name_of(*reason)] += 1;
  model.count_failed(0.0);
  load_.offer(key, samples, 0.0);
  update_level(now_s, false);
  if (*reason == RejectReason::kLate) {
    char ms[32];
    std::snprintf(ms, sizeof ms, "%.1f", 1000 * state.level_delay_s);
    return Rejection{*reason, "deadline: cannot be met; " + std::string(ms) + " ms of work wait",
                     0};
  }
  const std::uint32_t wait_ms = pushback_ms(state);
  const std::string whose =
      *reason == RejectReason::kShare ? "this client's share of the queue" : "the queue";
  return Rejection{*reason,
                   "server: " + whose + " is full; try again in " + std::to_string(wait_ms) + " ms",
                   wait_ms};
}

void Dispatcher::update_level(double now_s, bool at_once) {
  settle(now_s);
  load_.observe(now_s, delays_s(now_s), at_once);
}

}  // namespace taper
