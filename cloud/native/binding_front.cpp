// The Python module cloud.native._front.
#include <nanobind/nanobind.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "credentials.hpp"
#include "dispatcher.hpp"
#include "front.hpp"
#include "model.hpp"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: "name"_a

namespace taper {
namespace {

std::string_view view_of(const nb::bytes& data) {
  return {static_cast<const char*>(data.data()), data.size()};
}

nb::bytes to_bytes(std::string_view data) { return nb::bytes(data.data(), data.size()); }

// Values of metadata are ASCII, but for those whose names end in -bin.
nb::object to_value(const std::string& value, bool binary) {
  bool ascii = true;
  for (const char c : value) ascii = ascii && !(c & 0x80);
  if (binary || !ascii) return to_bytes(value);
  return nb::str(value.data(), value.size());
}

nb::tuple to_info(const Call& call) {
  const CallInfo& info = call.info();
  nb::list metadata;
  for (const auto& [name, value] : info.metadata) {
    const bool binary = name.size() > 4 && name.compare(name.size() - 4, 4, "-bin") == 0;
    metadata.append(nb::make_tuple(nb::str(name.data(), name.size()), to_value(value, binary)));
  }
  nb::object remaining = nb::none();
  if (!std::isinf(info.remaining_s)) remaining = nb::float_(info.remaining_s);
  return nb::make_tuple(info.method, info.peer, nb::tuple(metadata), remaining);
}

nb::list take_events(Front& front) {
  nb::list found;
  for (Event& event : front.events().take()) {
    nb::object call = nb::none();
    nb::object named = nb::none();
    if (event.call) {
      const auto unary = std::dynamic_pointer_cast<UnaryCall>(event.call);
      call = unary ? nb::cast(unary) : nb::cast(std::dynamic_pointer_cast<StreamCall>(event.call));
    }
    if (event.named) named = nb::make_tuple(event.named->first, event.named->second);
    found.append(nb::make_tuple(static_cast<int>(event.kind), event.id, to_bytes(event.data), call,
                                named));
  }
  return found;
}

std::optional<Pem> to_pem(nb::handle found) {
  if (found.is_none()) return std::nullopt;
  const auto [key, certificate, authorities] =
      nb::cast<std::tuple<nb::bytes, nb::bytes, nb::bytes>>(found);
  return Pem{std::string(view_of(key)), std::string(view_of(certificate)),
             std::string(view_of(authorities))};
}

// `certificates` gives (key, certificate, authorities) as PEM, or None to keep those in use; it must
// not raise.
int start(Front& front, const std::string& address, nb::object certificates) {
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (!certificates.is_none()) {
    const auto first = to_pem(certificates());
    if (!first) throw nb::value_error("certificates: must give some at first");
    credentials = tls_credentials(*first, [function = certificates]() -> std::optional<Pem> {
      const nb::gil_scoped_acquire acquired;
      return to_pem(function());
    });
  }
  const nb::gil_scoped_release release;
  return front.start(address, std::move(credentials));
}

void make_front(Front* self, std::shared_ptr<Dispatcher> dispatcher, int threads,
                int max_message_bytes, int max_streams, bool shared_port, bool all_to_python,
                bool tell_refusals, std::size_t max_calls, std::size_t max_call_bytes) {
  new (self) Front(
      FrontSettings{max_message_bytes, max_streams, shared_port, all_to_python, tell_refusals,
                    {static_cast<std::size_t>(max_streams), max_calls, max_call_bytes}},
      std::move(dispatcher), threads);
}

void set_owners(Front& front, nb::object described) {
  std::shared_ptr<Clients::Owners> owners;
  if (!described.is_none()) {
    owners = std::make_shared<Clients::Owners>();
    for (const auto& [digest, name] : nb::cast<nb::dict>(described)) {
      (*owners)[std::string(view_of(nb::cast<nb::bytes>(digest)))] = nb::cast<std::string>(name);
    }
  }
  front.clients().set_owners(std::move(owners));
}

void bind_calls(nb::module_& module) {
  nb::class_<Call>(module, "Call", "A call of a client; after its end nothing does anything.")
      .def_prop_ro("id", &Call::id)
      .def_prop_ro("info", &to_info, "Method, peer, metadata, seconds to the deadline or None.")
      .def("finish",
           [](Call& call, int status, const std::string& message, const Metadata& trailer) {
             call.finish({status, message, trailer});
           },
           "status"_a, "message"_a, "trailer"_a)
      .def("cancel", &Call::cancel);
  nb::class_<UnaryCall, Call>(module, "UnaryCall", "A call whose request has been read.")
      .def("respond", [](UnaryCall& call, nb::bytes data) { call.respond(view_of(data)); });
  nb::class_<StreamCall, Call>(module, "StreamCall", "A call with any number of messages.")
      .def("read", &StreamCall::read, "Read a message; an event follows.")
      .def("write", [](StreamCall& call, nb::bytes data) { call.write(view_of(data)); },
           "Write a message; an event follows.")
      .def("respond", [](StreamCall& call, nb::bytes data) { call.respond(view_of(data)); })
      .def("attach", &StreamCall::attach, "client"_a, "Answer what can be answered here.")
      .def("begun", &StreamCall::begun, "model"_a, "version"_a)
      .def("answer",
           [](StreamCall& call, nb::bytes data) { call.answer(view_of(data)); })
      .def("leave", &StreamCall::leave, "Read no more; an event follows when all is answered.");
}

}  // namespace

NB_MODULE(_front, module) {
  nb::set_leak_warnings(false);  // objects that live until the process exits are no leaks
  nb::module_::import_("cloud.native._core");  // dispatchers and models are its
  module.doc() = "gRPC's C++ server, which answers cheap requests without Python.";
  bind_calls(module);
  nb::class_<Front>(module, "Front", "A gRPC server with threads of its own.")
      .def("__init__", &make_front, "dispatcher"_a, "threads"_a, "max_message_bytes"_a,
           "max_streams"_a, "shared_port"_a, "all_to_python"_a, "tell_refusals"_a, "max_calls"_a,
           "max_call_bytes"_a)
      .def("start", &start, "address"_a, "certificates"_a.none(),
           "The port, or 0 if the address cannot be had.")
      .def("stop",
           [](Front& front, double grace_s) {
             const nb::gil_scoped_release release;
             front.stop(grace_s);
           },
           "grace_s"_a)
      .def("fileno", [](Front& front) { return front.events().file(); })
      .def("take_events", &take_events,
           "(kind, call's id, data, call or None, (model, version) or None) of each event.")
      .def("serve",
           [](Front& front, std::vector<std::shared_ptr<Model>> models) {
             front.scheduler().serve(std::move(models));
           },
           "models"_a)
      .def("set_owners", &set_owners, "owners"_a.none())
      .def("take_used", [](Front& front) { return front.clients().take_used(); },
           "Connections with calls since the last time.")
      .def("take_cuts",
           [](Front& front) {
             Cuts cuts = front.take_cuts();
             return std::tuple(cuts.count, std::move(cuts.peer), std::move(cuts.fault));
           },
           "Connections that were reset since the last time: how many, the last one's peer and fault.")
      .def_prop_ro("connections", &Front::connections,
                   "Connections that are open, or have closed so recently that it was not noticed.")
      .def_prop_ro("cpu_s", &Front::cpu_s, "Seconds of CPU time of its threads.")
      .def_prop_ro("calls", [](Front& front) { return front.clients().calls(); },
                   "Inference calls that are under way.");
}

}  // namespace taper
