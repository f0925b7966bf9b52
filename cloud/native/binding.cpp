// The Python module cloud.native._core: the scheduling core for the Python front and for tests.
#include "binding_dispatcher.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <limits>

#include "admission.hpp"
#include "costs.hpp"
#include "fair_queue.hpp"
#include "level_controller.hpp"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: "name"_a

namespace taper {
namespace {

using KeyTuple = std::tuple<std::uint64_t, int, int>;  // model, level, pinned level or -1

void bind_costs(nb::module_& module) {
  module.attr("RUN_FIXED_S") = kRunFixedS;
  nb::class_<LinearFit>(module, "LinearFit")
      .def(nb::init<double, double>(), "fixed_s"_a, "sample_s"_a)
      .def_prop_ro("fixed_s", &LinearFit::fixed_s)
      .def_prop_ro("sample_s", &LinearFit::sample_s)
      .def_prop_ro("measured", &LinearFit::measured)
      .def("seconds", &LinearFit::seconds, "samples"_a)
      .def("guess", &LinearFit::guess, "sample_s"_a)
      .def("learn", &LinearFit::learn, "samples"_a, "seconds"_a);
  nb::class_<CostModel>(module, "CostModel")
      .def(nb::init<std::vector<std::vector<double>>>(), "macs"_a)
      .def("run_s", &CostModel::run_s, "level"_a, "cloud_level"_a, "samples"_a)
      .def("sample_s", &CostModel::sample_s, "level"_a, "cloud_level"_a)
      .def("decode_s", &CostModel::decode_s, "encoding"_a, "level"_a, "samples"_a)
      .def("most_samples", &CostModel::most_samples, "encoding"_a, "level"_a, "cloud_level"_a,
           "budget_s"_a, "limit"_a)
      .def("learn_run", &CostModel::learn_run, "level"_a, "cloud_level"_a, "samples"_a, "seconds"_a)
      .def("learn_decode", &CostModel::learn_decode, "encoding"_a, "level"_a, "samples"_a,
           "seconds"_a);
}

std::shared_ptr<Item> make_item(KeyTuple key, const std::string& client, std::int64_t samples,
                                double arrived_s, double deadline_s, std::uint64_t number,
                                double once_s, double sample_s, std::int64_t expected) {
  const auto [model, level, pinned] = key;
  auto item = std::make_shared<Item>(Key{model, level, pinned, false}, client, samples, arrived_s,
                                     deadline_s);
  item->number = number;
  item->once_s = once_s;
  item->sample_s = sample_s;
  if (expected > 0) item->expected = expected;
  return item;
}

void bind_queue(nb::module_& module) {
  nb::class_<Item>(module, "Item", "A waiting request.")
      .def(nb::new_(&make_item), "key"_a, "client"_a, "samples"_a, "arrived_s"_a, "deadline_s"_a,
           "number"_a = 0, "once_s"_a = 0.0, "sample_s"_a = 1.0, "expected"_a = 0)
      .def_prop_ro("key", [](const Item& item) {
        return KeyTuple{item.key.model, item.key.level, item.key.pinned};
      })
      .def_ro("client", &Item::client)
      .def_ro("samples", &Item::samples)
      .def_ro("number", &Item::number);
  nb::class_<Slice>(module, "Slice", "Samples start to stop of an item.")
      .def_ro("item", &Slice::item)
      .def_ro("start", &Slice::start)
      .def_ro("stop", &Slice::stop)
      .def_prop_ro("samples", &Slice::samples)
      .def_prop_ro("predicted_s", &Slice::predicted_s);
  nb::class_<FairQueue>(module, "FairQueue")
      .def(nb::init<std::int64_t, double>(), "max_batch"_a, "max_delay_s"_a)
      .def_prop_ro("samples", &FairQueue::samples)
      .def_prop_ro("requests", &FairQueue::requests)
      .def_prop_ro("clients", &FairQueue::clients)
      .def_prop_ro("once_s", &FairQueue::once_s)
      .def("client_samples", &FairQueue::client_samples, "client"_a)
      .def("put", &FairQueue::put, "item"_a)
      .def("take", [](FairQueue& queue, double now_s) { return queue.take(now_s); }, "now_s"_a)
      .def("drop", &FairQueue::drop, "item"_a)
      .def("decoded", &FairQueue::decoded, "item"_a)
      .def("hold", &FairQueue::hold, "item"_a)
      .def("release", &FairQueue::release, "item"_a)
      .def("charge", &FairQueue::charge, "client"_a, "seconds"_a);
}

void bind_admission(nb::module_& module) {
  nb::enum_<RejectReason>(module, "RejectReason")
      .value("LATE", RejectReason::kLate)
      .value("FULL", RejectReason::kFull)
      .value("SHARE", RejectReason::kShare);
  nb::class_<QueueLimits>(module, "QueueLimits")
      .def(nb::init<std::int64_t, double>(), "samples"_a, "delay_s"_a)
      .def_ro("samples", &QueueLimits::samples)
      .def_ro("delay_s", &QueueLimits::delay_s);
  nb::class_<QueueState>(module, "QueueState")
      .def(nb::init<std::int64_t, std::int64_t, std::int64_t, double, double>(), "samples"_a,
           "client_samples"_a, "clients"_a, "delay_s"_a, "level_delay_s"_a);
  module.def("reject_reason", [](const QueueState& state, const QueueLimits& limits,
                                 std::int64_t samples, double work_s,
                                 std::optional<double> remaining_s) {
    return reject_reason(state, limits, samples, work_s,
                         remaining_s.value_or(std::numeric_limits<double>::infinity()));
  }, "state"_a, "limits"_a, "samples"_a, "work_s"_a, "remaining_s"_a.none());
}

void bind_level(nb::module_& module) {
  nb::class_<LevelController>(module, "LevelController")
      .def(nb::init<std::size_t, double>(), "count"_a, "objective_s"_a)
      .def_prop_ro("level", &LevelController::level)
      .def_prop_ro("limit_s", &LevelController::limit_s)
      .def("update", &LevelController::update, "now_s"_a, "delays_s"_a, "demand"_a,
           "measured_late"_a = false);
  nb::class_<Demand>(module, "Demand")
      .def(nb::init<std::size_t, double>(), "count"_a, "window_s"_a = 0.5)
      .def("add", &Demand::add, "now_s"_a, "work_s"_a)
      .def("shares", &Demand::shares, "now_s"_a);
  nb::class_<SojournTimes>(module, "SojournTimes")
      .def(nb::init<double>(), "window_s"_a = 0.25)
      .def("add", &SojournTimes::add, "now_s"_a, "late"_a, "total"_a = 1)
      .def("late", &SojournTimes::late, "now_s"_a)
      .def("clear", &SojournTimes::clear);
}

}  // namespace
}  // namespace taper

NB_MODULE(_core, module) {
  nb::set_leak_warnings(false);  // some objects live until the process exits
  module.doc() = "The scheduling core of the server.";
  nb::module_::import_("shared.packed._native");  // defines the classes of engines
  taper::bind_costs(module);
  taper::bind_queue(module);
  taper::bind_admission(module);
  taper::bind_level(module);
  taper::bind_dispatcher(module);
  taper::bind_scheduler(module);
}
