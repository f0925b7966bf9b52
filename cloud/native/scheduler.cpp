#include "scheduler.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "catalog.hpp"
#include "computation.hpp"
#include "dispatcher.hpp"
#include "looks.hpp"
#include "native_job.hpp"

namespace taper {
namespace {

constexpr char kInvalid[] = "invalid";  // name of the reason of a refusal in metrics

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Outcome refusal(Status status, std::string message, std::uint64_t id,
                std::uint32_t retry_after_ms = 0) {
  return {status, {}, std::move(message), retry_after_ms, id};
}

Outcome refusal(const Rejection& rejection, std::uint64_t id) {
  const bool late = rejection.reason == RejectReason::kLate;
  return refusal(late ? Status::kDeadlineExceeded : Status::kResourceExhausted, rejection.message,
                 id, rejection.wait_ms);
}

NativeJob& job_of(const Queued& queued) { return static_cast<NativeJob&>(*queued.work); }

std::uint32_t microseconds(double seconds) { return static_cast<std::uint32_t>(seconds * 1e6); }

}  // namespace

struct Scheduler::State {
  explicit State(std::shared_ptr<Dispatcher> shared) : dispatcher(std::move(shared)) {}

  std::optional<Answer> at_once(const InferRequest& request, const std::shared_ptr<Model>& model,
                                std::string_view client, StreamState* stream);
  Answer submit(std::string_view data, const InferRequest& request,
                const std::shared_ptr<Model>& model, std::string_view client, double remaining_s,
                const std::shared_ptr<StreamState>& stream, Done done);
  Outcome run_at_once(NativeJob& job, const JobSpec& spec, std::size_t cloud_level);
  Outcome answer(const NativeJob& job, const Model& model, std::size_t cloud_level,
                 double queue_s, double compute_s);
  void work();
  void run(Batch& batch);
  void answer_slice(const Slice& slice, const Measured& measured, const Batch& batch);
  void refuse(const Queued& queued, Outcome&& outcome);
  void refuse_late(const std::vector<QueuedPtr>& late);
  void refuse_waiting();
  void wake_one();

  std::shared_ptr<Dispatcher> dispatcher;
  std::shared_ptr<const Catalog> catalog =
      std::make_shared<Catalog>(std::vector<std::shared_ptr<Model>>{});
  std::mutex mutex;
  std::condition_variable wake;
  std::uint64_t puts = 0;  // number of requests that were queued
  bool stopping = false;
  std::vector<std::thread> threads;
};

Scheduler::Scheduler(std::shared_ptr<Dispatcher> dispatcher, std::size_t threads)
    : state_(std::make_unique<State>(std::move(dispatcher))) {
  for (std::size_t i = 0; i < threads; ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->work(); });
  }
}

Scheduler::~Scheduler() { stop(); }

void Scheduler::stop() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
  state_->threads.clear();
  state_->refuse_waiting();
}

void Scheduler::serve(std::vector<std::shared_ptr<Model>> models) {
  std::shared_ptr<const Catalog> next = std::make_shared<Catalog>(models);
  state_->dispatcher->serve(now_s(), models);
  std::atomic_store(&state_->catalog, std::move(next));
}

const std::shared_ptr<Dispatcher>& Scheduler::dispatcher() const { return state_->dispatcher; }

Scheduler::Answer Scheduler::infer(std::string_view data, std::string_view client,
                                   double remaining_s, const std::shared_ptr<StreamState>& stream,
                                   Done done) {
  const auto request = read_request(data);
  if (!request) return {};
  const auto catalog = std::atomic_load(&state_->catalog);
  const auto model = stream ? stream->find(*catalog, request->model, request->version)
                            : catalog->find(request->model, request->version);
  if (model == nullptr || model->engine() == nullptr) return {};
  if (auto found = state_->at_once(*request, model, client, stream.get())) {
    return std::move(*found);
  }
  if (!model->engine()->is_right(*request)) return {};
  return state_->submit(data, *request, model, client, remaining_s, stream, std::move(done));
}

Scheduler::Answer Scheduler::infer_images(std::string_view data, std::string_view client) {
  const auto request = read_image_request(data);
  if (!request || request->model.empty()) return {};
  const auto model = std::atomic_load(&state_->catalog)->find(request->model, "");
  if (model == nullptr || model->image_engine() == nullptr) return {};
  const auto permit = state_->dispatcher->may_run_at_once(model, client);
  if (!permit) return {};
  auto found = model->image_engine()->answer(
      *request, static_cast<std::uint32_t>(permit->cloud_level), model->most_images());
  if (!found) return {};
  state_->dispatcher->ran_at_once(now_s(), client,
                                  {model, static_cast<int>(found->level), kNotPinned, kImages,
                                   found->samples, permit->cloud_level, found->decode_s,
                                   found->run_s});
  return {Begun::kDone, {Status::kOk, std::move(found->response), {}, 0, 0}, {}};
}

bool Scheduler::withdraw(const Ticket& ticket) {
  const QueuedPtr queued = ticket.lock();
  return queued && state_->dispatcher->withdraw(queued) && job_of(*queued).take_done();
}

void Scheduler::count(int status, std::size_t received_bytes, std::size_t sent_bytes) {
  state_->dispatcher->count_request(status, received_bytes, sent_bytes);
}

// Answers a cheap request that need not wait, with one call of the engine.
std::optional<Scheduler::Answer> Scheduler::State::at_once(const InferRequest& request,
                                                           const std::shared_ptr<Model>& model,
                                                           std::string_view client,
                                                           StreamState* stream) {
  const auto permit = dispatcher->may_run_at_once(model, client);
  if (!permit) return std::nullopt;
  auto found = model->engine()->answer(request, static_cast<std::uint32_t>(permit->cloud_level),
                                       permit->load, permit->crowded);
  if (!found) return std::nullopt;
  const double now = now_s();
  dispatcher->ran_at_once(now, client,
                          {model, static_cast<int>(found->level), kNotPinned,
                           static_cast<int>(found->encoding), found->samples, permit->cloud_level,
                           found->decode_s, found->run_s});
  if (request.looks) {
    auto wrong = note_looks(*dispatcher, now, request, model->version(), found->asked, stream);
    if (wrong) {
      return Answer{Begun::kDone,
                    refusal(Status::kInvalidArgument, std::move(*wrong), request.id), {}};
    }
  }
  return Answer{Begun::kDone, {Status::kOk, std::move(found->response), {}, 0, request.id}, {}};
}

Scheduler::Answer Scheduler::State::submit(std::string_view data, const InferRequest& request,
                                           const std::shared_ptr<Model>& model,
                                           std::string_view client, double remaining_s,
                                           const std::shared_ptr<StreamState>& stream, Done done) {
  const Engine& engine = *model->engine();
  const JobSpec spec = spec_of(model, engine, request);
  std::unique_ptr<Work> work =
      std::make_unique<NativeJob>(engine, std::string(data), stream, std::move(done));
  const Verdict verdict = dispatcher->submit(now_s(), spec, client, remaining_s, &work);
  if (verdict.queued) {
    wake_one();
    return {Begun::kQueued, {}, verdict.queued};
  }
  if (verdict.rejected) return {Begun::kDone, refusal(*verdict.rejected, request.id), {}};
  return {Begun::kDone,
          run_at_once(static_cast<NativeJob&>(*work), spec, *verdict.at_once), {}};
}

Outcome Scheduler::State::run_at_once(NativeJob& job, const JobSpec& spec,
                                      std::size_t cloud_level) {
  const auto computed = compute_alone(job, *spec.model->engine(), cloud_level);
  if (computed.wrong) {
    dispatcher->refused(*spec.model, kInvalid, computed.decode_s);
    return refusal(Status::kInvalidArgument, job.complaint(), job.request().id);
  }
  dispatcher->ran_at_once(now_s(), "",
                          {spec.model, spec.level, spec.pinned, spec.encoding, spec.samples,
                           cloud_level, computed.decode_s, computed.run_s});
  return answer(job, *spec.model, cloud_level, 0.0, computed.decode_s + computed.run_s);
}

// The outcome of a job whose last slice has been computed.
Outcome Scheduler::State::answer(const NativeJob& job, const Model& model, std::size_t cloud_level,
                                 double queue_s, double compute_s) {
  const InferRequest& request = job.request();
  const auto hints = dispatcher->hints_for(static_cast<int>(request.level));
  ResponseHead head;
  head.id = request.id;
  head.cloud_level = static_cast<std::uint32_t>(cloud_level);
  head.queue_us = microseconds(queue_s);
  head.compute_us = microseconds(compute_s);
  if (hints) {
    head.load = static_cast<float>(hints->load);
    head.suggested_level = hints->suggested_level;
  }
  auto [response, asked] = model.engine()->respond(request, head, job.logits(), job.samples());
  if (request.looks) {
    auto wrong = note_looks(*dispatcher, now_s(), request, model.version(), asked,
                            job.stream().get());
    if (wrong) return refusal(Status::kInvalidArgument, std::move(*wrong), request.id);
  }
  return {Status::kOk, std::move(response), {}, 0, request.id};
}

// The loop of a compute thread.
void Scheduler::State::work() {
  std::uint64_t seen = 0;
  while (true) {
    {
      const std::lock_guard lock(mutex);
      if (stopping) return;
      seen = puts;
    }
    auto next = dispatcher->take(now_s(), true);
    refuse_late(next.late);
    if (next.batch) {
      run(*next.batch);
      continue;
    }
    std::unique_lock lock(mutex);
    wake.wait(lock, [&] { return stopping || puts != seen; });
  }
}

void Scheduler::State::run(Batch& batch) {
  std::string fault;
  try {
    compute(batch);
  } catch (const std::exception& error) {  // the clients that wait must get an answer
    batch.failed = true;
    fault = error.what();
  }
  dispatcher->finish(batch);
  dispatcher->observe(now_s());
  for (std::size_t place = 0; place < batch.slices.size(); ++place) {
    const Slice& slice = batch.slices[place];
    if (batch.failed) {
      refuse(Batch::job(slice), refusal(Status::kInternal,
                                        "server: could not compute (" + fault + ")", 0));
    } else {
      answer_slice(slice, batch.measured[place], batch);
    }
  }
}

// Passes the outcome of a job to its callback if this was its last slice.
void Scheduler::State::answer_slice(const Slice& slice, const Measured& measured,
                                    const Batch& batch) {
  Queued& queued = Batch::job(slice);
  NativeJob& job = job_of(queued);
  if (measured.failed) {
    dispatcher->refused(now_s(), std::static_pointer_cast<Queued>(slice.item), kInvalid);
    refuse(queued, refusal(Status::kInvalidArgument, job.complaint(), 0));
  } else if (slice.stop == queued.samples) {
    const double queue_s = dispatcher->answered(now_s(), queued);
    if (const auto done = job.take_done()) {
      done(answer(job, *batch.model, batch.cloud_level, queue_s, queued.compute_s));
    }
  }
}

void Scheduler::State::refuse(const Queued& queued, Outcome&& outcome) {
  NativeJob& job = job_of(queued);
  outcome.id = job.request().id;
  if (const auto done = job.take_done()) done(std::move(outcome));
}

void Scheduler::State::refuse_late(const std::vector<QueuedPtr>& late) {
  for (const QueuedPtr& queued : late) {
    refuse(*queued, refusal(Status::kDeadlineExceeded,
                            "deadline: passed while the request waited", 0));
  }
}

// Refuses all waiting requests, as the threads have ended.
void Scheduler::State::refuse_waiting() {
  while (true) {
    auto next = dispatcher->take(now_s(), true);
    refuse_late(next.late);
    if (!next.batch) return;
    next.batch->failed = true;
    dispatcher->finish(*next.batch);
    for (const Slice& slice : next.batch->slices) {
      refuse(Batch::job(slice), refusal(Status::kUnavailable, "server: is shutting down", 0));
    }
  }
}

void Scheduler::State::wake_one() {
  {
    const std::lock_guard lock(mutex);
    ++puts;
  }
  wake.notify_one();
}

}  // namespace taper
