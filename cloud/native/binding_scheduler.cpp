#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <limits>
#include <optional>

#include "binding_dispatcher.hpp"
#include "dispatcher.hpp"
#include "scheduler.hpp"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: "name"_a

namespace taper {
namespace {

// Stops a scheduler without the GIL, for which its threads may be waiting.
void destroy(Scheduler* scheduler) {
  if (nb::is_alive() && PyGILState_Check() != 0) {
    nb::gil_scoped_release release;
    delete scheduler;
  } else {
    delete scheduler;
  }
}

std::shared_ptr<Scheduler> make_scheduler(std::shared_ptr<Dispatcher> dispatcher,
                                          std::size_t threads) {
  return {new Scheduler(std::move(dispatcher), threads), destroy};
}

std::string_view view_of(const nb::bytes& data) {
  return {static_cast<const char*>(data.data()), data.size()};
}

// The outcome; or the ticket of a queued request; or None for one that Python must answer.
nb::object to_python(Scheduler::Answer&& answer) {
  switch (answer.begun) {
    case Begun::kDone: return nb::cast(std::move(answer.outcome));
    case Begun::kQueued: return nb::cast(std::move(answer.ticket));
    case Begun::kElsewhere: break;
  }
  return nb::none();
}

nb::object infer(Scheduler& scheduler, nb::bytes request, std::string_view client,
                 std::optional<double> remaining_s, std::shared_ptr<StreamState> stream,
                 std::function<void(Outcome)> done) {
  const std::string_view data = view_of(request);
  Scheduler::Answer answer;
  {
    nb::gil_scoped_release release;
    answer = scheduler.infer(data, client,
                             remaining_s.value_or(std::numeric_limits<double>::infinity()), stream,
                             [done = std::move(done)](Outcome&& outcome) { done(outcome); });
  }
  return to_python(std::move(answer));
}

nb::object infer_images(Scheduler& scheduler, nb::bytes request, std::string_view client) {
  const std::string_view data = view_of(request);
  Scheduler::Answer answer;
  {
    nb::gil_scoped_release release;
    answer = scheduler.infer_images(data, client);
  }
  return to_python(std::move(answer));
}

}  // namespace

void bind_scheduler(nb::module_& module) {
  nb::enum_<LaterLook>(module, "LaterLook")
      .value("KNOWN", LaterLook::kKnown)
      .value("UNKNOWN", LaterLook::kUnknown)
      .value("TWICE", LaterLook::kTwice)
      .value("OTHER_VERSION", LaterLook::kOtherVersion);
  nb::class_<StreamState>(module, "StreamState", "What a stream remembers between its messages.")
      .def(nb::init<>())
      .def("named", &StreamState::named)
      .def("name", &StreamState::name, "model"_a, "version"_a)
      .def("asked", [](StreamState& stream, double now_s, std::uint64_t id,
                       std::string_view version, double keep_s) {
        stream.looks.asked(now_s, id, version, keep_s);
      }, "now_s"_a, "id"_a, "version"_a, "keep_s"_a)
      .def("looked", [](StreamState& stream, double now_s, std::uint64_t id,
                        std::string_view version) {
        std::string first;
        const LaterLook found = stream.looks.looked(now_s, id, version, first);
        return std::pair(found, first);
      }, "now_s"_a, "id"_a, "version"_a);
  nb::class_<Outcome>(module, "Outcome", "The response to a request, or why there is none.")
      .def_prop_ro("status", [](const Outcome& one) { return static_cast<int>(one.status); })
      .def_prop_ro("response", [](const Outcome& one) {
        return nb::bytes(one.response.data(), one.response.size());
      })
      .def_ro("message", &Outcome::message)
      .def_ro("retry_after_ms", &Outcome::retry_after_ms)
      .def_ro("id", &Outcome::id)
      .def("failure_response", [](const Outcome& one) {
        const std::string response = failure_response(one);
        return nb::bytes(response.data(), response.size());
      });
  nb::class_<Ticket>(module, "Ticket", "Names a queued request.");
  nb::class_<Scheduler>(module, "Scheduler", "From bytes to bytes, with threads of its own.")
      .def(nb::new_(&make_scheduler), "dispatcher"_a, "threads"_a)
      .def("serve", &Scheduler::serve, "models"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("infer", &infer, "request"_a, "client"_a, "remaining_s"_a.none(), "stream"_a.none(),
           "done"_a)
      .def("infer_images", &infer_images, "request"_a, "client"_a)
      .def("withdraw", &Scheduler::withdraw, "ticket"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("count", &Scheduler::count, "status"_a, "received_bytes"_a, "sent_bytes"_a)
      .def("stop", &Scheduler::stop, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace taper
