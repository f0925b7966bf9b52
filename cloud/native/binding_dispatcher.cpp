#include "binding_dispatcher.hpp"

#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <limits>

#include "dispatcher.hpp"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: "name"_a

namespace taper {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

int pinned_of(std::optional<int> pinned) { return pinned.value_or(kNotPinned); }

// Numbers from Python are checked, as they are used as indices of tables.
void check(const Model& model, int level, int pinned, std::int64_t samples) {
  const bool right = level >= 0 && static_cast<std::size_t>(level) < model.costs.levels() &&
                     pinned >= kNotPinned &&
                     pinned < static_cast<int>(model.costs.cloud_levels()) && samples >= 1;
  if (!right) throw nb::value_error("level, pinned, samples: must be those of the model");
}

nb::object to_python(std::optional<EngineAnswer>&& found) {
  if (!found) return nb::none();
  return nb::make_tuple(nb::bytes(found->response.data(), found->response.size()), found->level,
                        found->encoding, found->samples, found->names_model, found->names_version,
                        found->decode_s, found->run_s, found->id, found->earlier_looks,
                        found->asked);
}

std::string_view view_of(const nb::bytes& data) {
  return {static_cast<const char*>(data.data()), data.size()};
}

// Answers a cheap request of `client` with an engine of `model`, and counts it.
template <class Ask>
nb::object at_once(Dispatcher& dispatcher, double now_s, const std::shared_ptr<Model>& model,
                   std::string_view client, const Ask& ask) {
  std::optional<EngineAnswer> found;
  {
    nb::gil_scoped_release release;
    const auto permit = dispatcher.may_run_at_once(model, client);
    if (!permit) return nb::none();
    found = ask(*permit);
    if (found) {
      dispatcher.ran_at_once(now_s, client,
                             {model, static_cast<int>(found->level), kNotPinned,
                              static_cast<int>(found->encoding), found->samples,
                              permit->cloud_level, found->decode_s, found->run_s});
    }
  }
  return to_python(std::move(found));
}

nb::object answer(Dispatcher& dispatcher, double now_s, std::shared_ptr<Model> model,
                  nb::bytes request, std::string_view client) {
  const Engine* const engine = model->engine();
  if (engine == nullptr) return nb::none();
  const std::string_view data = view_of(request);
  return at_once(dispatcher, now_s, model, client, [&](const Dispatcher::Permit& permit) {
    return engine->answer(data, static_cast<std::uint32_t>(permit.cloud_level), permit.load,
                          permit.crowded);
  });
}

nb::object answer_images(Dispatcher& dispatcher, double now_s, std::shared_ptr<Model> model,
                         nb::bytes request, std::string_view client) {
  const ImageEngine* const engine = model->image_engine();
  if (engine == nullptr) return nb::none();
  const std::string_view data = view_of(request);
  return at_once(dispatcher, now_s, model, client, [&](const Dispatcher::Permit& permit) {
    return engine->answer(data, static_cast<std::uint32_t>(permit.cloud_level),
                          model->most_images());
  });
}

nb::object submit(Dispatcher& dispatcher, double now_s, std::shared_ptr<Model> model, int level,
                  std::optional<int> pinned, int encoding, std::int64_t samples,
                  std::int64_t expected, bool sliced, std::string_view client,
                  std::optional<double> remaining_s) {
  check(*model, level, pinned_of(pinned), std::min(samples, expected));
  const JobSpec job{std::move(model), level,    pinned_of(pinned), encoding,
                    samples,          expected, sliced,            false};
  const Verdict verdict = dispatcher.submit(now_s, job, client, remaining_s.value_or(kNever));
  if (verdict.at_once) return nb::cast(*verdict.at_once);
  if (verdict.rejected) return nb::cast(*verdict.rejected);
  return nb::cast(verdict.queued);
}

void ran_at_once(Dispatcher& dispatcher, double now_s, std::shared_ptr<Model> model, int level,
                 std::optional<int> pinned, std::int64_t samples, int cloud_level, double decode_s,
                 double run_s) {
  check(*model, level, pinned_of(pinned), samples);
  check(*model, level, cloud_level < 0 ? std::numeric_limits<int>::max() : cloud_level, samples);
  dispatcher.ran_at_once(now_s, "",
                         {std::move(model), level, pinned_of(pinned), kDecodingCounted, samples,
                          static_cast<std::size_t>(cloud_level), decode_s, run_s});
}

nb::object hints_for(const Dispatcher& dispatcher, int level) {
  const auto hints = dispatcher.hints_for(level);
  if (!hints) return nb::none();
  return nb::make_tuple(hints->load, hints->suggested_level);
}

nb::dict described(const Histogram& histogram) {
  nb::dict found;
  found["bounds"] = histogram.bounds();
  found["counts"] = histogram.counts();
  found["total"] = histogram.total();
  return found;
}

nb::dict counters(const Dispatcher& dispatcher) {
  const Counters counted = dispatcher.counters();
  nb::dict histograms;
  histograms["queue_seconds"] = described(counted.queue_s);
  histograms["compute_seconds"] = described(counted.compute_s);
  histograms["latency_seconds"] = described(counted.latency_s);
  histograms["batch_samples"] = described(counted.batch_samples);
  nb::dict found;
  found["samples"] = counted.samples;
  found["refusals"] = counted.refusals;
  found["requests"] = counted.requests;
  found["named"] = counted.named;
  found["histograms"] = histograms;
  return found;
}

void bind_model(nb::module_& module) {
  nb::class_<Statistics>(module, "Statistics", "What a model has answered and refused.")
      .def_ro("requests", &Statistics::requests)
      .def_ro("failures", &Statistics::failures)
      .def_ro("failure_s", &Statistics::failure_s)
      .def_ro("samples", &Statistics::samples)
      .def_ro("batches", &Statistics::batches)
      .def_ro("queue_s", &Statistics::queue_s)
      .def_ro("compute_s", &Statistics::compute_s)
      .def_ro("last_unix_s", &Statistics::last_unix_s);
  nb::class_<Model>(module, "Model", "A model as scheduling sees it.")
      .def(nb::init<std::string, std::string, std::vector<double>,
                    std::vector<std::vector<double>>>(),
           "name"_a, "version"_a, "cloud_fractions"_a, "macs"_a)
      .def_prop_ro("costs", [](Model& model) { return &model.costs; },
                   nb::rv_policy::reference_internal)
      .def("set_engine", &Model::set_engine, "engine"_a)
      .def("set_image_engine", &Model::set_image_engine, "engine"_a)
      .def("statistics", &Model::statistics)
      .def("count_failed", &Model::count_failed, "seconds"_a);
}

void bind_batch(nb::module_& module) {
  nb::class_<Queued, Item>(module, "Queued", "A job in the queue of a dispatcher.")
      .def_ro("compute_s", &Queued::compute_s);
  nb::class_<Batch>(module, "Batch", "Slices of jobs that run together, and what came of them.")
      .def_ro("slices", &Batch::slices)
      .def_ro("cloud_level", &Batch::cloud_level)
      .def_prop_ro("level", [](const Batch& batch) { return batch.key.level; })
      .def_ro("failed", &Batch::failed)
      .def("measure", [](Batch& batch, double decode_s, bool wrong, bool decoded) {
        batch.measured.push_back({decode_s, wrong, decoded});
      }, "decode_s"_a, "wrong"_a, "decoded"_a)
      .def("ran", [](Batch& batch, std::int64_t samples, double seconds) {
        batch.computed = samples;
        batch.run_s = seconds;
      }, "samples"_a, "seconds"_a)
      .def("fail", [](Batch& batch) { batch.failed = true; });
  nb::class_<Rejection>(module, "Rejection", "Why a job may not wait.")
      .def_ro("reason", &Rejection::reason)
      .def_ro("message", &Rejection::message)
      .def_ro("wait_ms", &Rejection::wait_ms);
}

std::shared_ptr<Dispatcher> make_dispatcher(std::int64_t max_batch, double max_delay_s,
                                            double objective_s, std::int64_t max_queue,
                                            std::optional<double> fraction, std::size_t threads) {
  return std::make_shared<Dispatcher>(
      DispatcherSettings{max_batch, max_delay_s, objective_s, max_queue, fraction, threads});
}

}  // namespace

void bind_dispatcher(nb::module_& module) {
  bind_model(module);
  bind_batch(module);
  nb::class_<Dispatcher>(module, "Dispatcher", "Decides what runs at once, waits or is refused.")
      .def(nb::new_(&make_dispatcher), "max_batch"_a, "max_delay_s"_a, "objective_s"_a,
           "max_queue"_a, "fraction"_a.none(), "threads"_a)
      .def("serve", &Dispatcher::serve, "now_s"_a, "models"_a)
      .def("answer", &answer, "now_s"_a, "model"_a, "request"_a, "client"_a)
      .def("answer_images", &answer_images, "now_s"_a, "model"_a, "request"_a, "client"_a)
      .def("submit", &submit, "now_s"_a, "model"_a, "level"_a, "pinned"_a.none(), "encoding"_a,
           "samples"_a, "expected"_a, "sliced"_a, "client"_a, "remaining_s"_a.none())
      .def("ran_at_once", &ran_at_once, "now_s"_a, "model"_a, "level"_a, "pinned"_a.none(),
           "samples"_a, "cloud_level"_a, "decode_s"_a, "run_s"_a)
      .def("take", [](Dispatcher& dispatcher, double now_s) {
        auto next = dispatcher.take(now_s, false);
        return std::pair(std::move(next.batch), std::move(next.late));
      }, "now_s"_a)
      .def("finish", &Dispatcher::finish, "batch"_a)
      .def("answered", &Dispatcher::answered, "now_s"_a, "job"_a)
      .def("refused", [](Dispatcher& dispatcher, double now_s, const QueuedPtr& job,
                         const std::string& reason) {
        dispatcher.refused(now_s, job, reason.c_str());
      }, "now_s"_a, "job"_a, "reason"_a)
      .def("count_refused", [](Dispatcher& dispatcher, Model& model, const std::string& reason,
                               double seconds) {
        dispatcher.refused(model, reason.c_str(), seconds);
      }, "model"_a, "reason"_a, "seconds"_a = 0.0)
      .def("withdraw", &Dispatcher::withdraw, "job"_a)
      .def("observe", &Dispatcher::observe, "now_s"_a)
      .def("tick", &Dispatcher::tick, "now_s"_a, "busy"_a, "lag_s"_a)
      .def("account", &Dispatcher::account, "now_s"_a)
      .def("load", &Dispatcher::load, "now_s"_a)
      .def("hints_for", &hints_for, "level"_a)
      .def("counters", &counters)
      .def_prop_ro("fraction", &Dispatcher::fraction)
      .def_prop_ro("running", &Dispatcher::running)
      .def_prop_ro("queued", &Dispatcher::queued);
}

}  // namespace taper
