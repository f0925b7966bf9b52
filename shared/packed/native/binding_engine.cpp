#include "binding_engine.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine.hpp"
#include "image_engine.hpp"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: "name"_a

namespace taper {
namespace {

std::unique_ptr<Engine> make_engine(std::shared_ptr<Half> half, const std::string& model,
                                    const std::string& version,
                                    const std::vector<std::shared_ptr<ContextCoder>>& coders,
                                    const std::vector<std::size_t>& sample_bits,
                                    std::size_t cloud_levels, std::size_t classes,
                                    std::size_t payload_slack) {
  if (coders.size() != sample_bits.size()) {
    throw nb::value_error("coders: must be as many as sample_bits");
  }
  std::vector<EngineLevel> levels;
  for (std::size_t level = 0; level < sample_bits.size(); ++level) {
    levels.push_back({coders[level], sample_bits[level]});
  }
  return std::make_unique<Engine>(std::move(half), model, version, std::move(levels), cloud_levels,
                                  classes, payload_slack);
}

nb::object to_python(const std::optional<EngineAnswer>& found) {
  if (!found) return nb::none();
  return nb::make_tuple(nb::bytes(found->response.data(), found->response.size()), found->level,
                        found->encoding, found->samples, found->names_model,
                        found->names_version, found->decode_s, found->run_s, found->id,
                        found->earlier_looks, found->asked);
}

std::string_view view_of(const nb::bytes& data) {
  return {static_cast<const char*>(data.data()), data.size()};
}

nb::object answer_images(const ImageEngine& engine, nb::bytes request, std::uint32_t cloud_level,
                         std::size_t most) {
  std::optional<EngineAnswer> found;
  {
    const std::string_view data = view_of(request);
    nb::gil_scoped_release release;
    found = engine.answer(data, cloud_level, most);
  }
  return to_python(found);
}

nb::object answer(const Engine& engine, nb::bytes request, std::uint32_t cloud_level,
                  std::optional<float> load, bool suggest_lower) {
  std::optional<EngineAnswer> found;
  {
    const std::string_view data = view_of(request);
    nb::gil_scoped_release release;
    found = engine.answer(data, cloud_level, load, suggest_lower);
  }
  return to_python(found);
}

// The rows of logits in contiguous memory of float32.
using Asked = std::tuple<std::uint32_t, std::uint32_t, std::vector<std::uint32_t>>;

nb::bytes respond(nb::handle logits, std::uint64_t id, std::size_t top_k,
                  std::tuple<std::uint32_t, std::uint32_t, std::uint32_t> level_and_times,
                  std::optional<float> load, std::optional<std::uint32_t> suggested_level,
                  const std::optional<Asked>& more) {
  Py_buffer view;
  if (PyObject_GetBuffer(logits.ptr(), &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) != 0) {
    PyErr_Clear();
    throw nb::value_error("logits: must be a contiguous float32 array");
  }
  const bool right = view.ndim == 2 && view.shape[1] > 0 && view.itemsize == sizeof(float) &&
                     view.format != nullptr && std::string_view(view.format) == "f";
  if (!right) {
    PyBuffer_Release(&view);
    throw nb::value_error("logits: must be float32 with two axes");
  }
  ResponseHead head;
  head.id = id;
  std::tie(head.cloud_level, head.queue_us, head.compute_us) = level_and_times;
  head.load = load;
  head.suggested_level = suggested_level;
  if (more) head.more = More{std::get<0>(*more), std::get<1>(*more), std::get<2>(*more)};
  const std::string response =
      write_response(head, static_cast<const float*>(view.buf),
                     static_cast<std::size_t>(view.shape[0]),
                     static_cast<std::size_t>(view.shape[1]), top_k);
  PyBuffer_Release(&view);
  return nb::bytes(response.data(), response.size());
}

}  // namespace

void bind_engine(nb::module_& module) {
  nb::class_<Engine>(module, "Engine", "A cloud half that answers from bytes to bytes.")
      .def(nb::new_(&make_engine), "half"_a, "model"_a, "version"_a, "coders"_a, "sample_bits"_a,
           "cloud_levels"_a, "classes"_a, "payload_slack"_a)
      .def("set_most_samples", &Engine::set_most_samples, "most"_a)
      .def("set_looks", &Engine::set_looks, "ask_below"_a, "keep_ms"_a)
      .def("set_least_bits", &Engine::set_least_bits, "bits"_a)
      .def("answer", &answer, "request"_a, "cloud_level"_a, "load"_a.none(), "suggest_lower"_a,
           "The response with level, encoding, samples, whether the request names a model and a "
           "version, the seconds of decoding and running, the id, how many looks went before "
           "(None if it says nothing of looks) and at how many samples another one is wanted; "
           "None if the request is not answered here.");
  nb::class_<ImageEngine>(module, "ImageEngine", "Both halves, from bytes to bytes.")
      .def(nb::init<std::shared_ptr<Half>, std::shared_ptr<Half>, const std::string&,
                    const std::string&, std::vector<std::size_t>, std::size_t, std::size_t>(),
           "device"_a, "cloud"_a, "model"_a, "version"_a, "image_shape"_a, "cloud_levels"_a,
           "classes"_a)
      .def("answer", &answer_images, "request"_a, "cloud_level"_a, "most"_a,
           "As Engine.answer, for a ModelInferRequest of at most `most` images; encoding is 0.");
  module.def("respond", &respond, "logits"_a, "id"_a, "top_k"_a, "level_and_times"_a,
             "load"_a.none(), "suggested_level"_a.none(), "more"_a.none() = nb::none(),
             "A serialised InferResponse; level_and_times = (cloud_level, queue_us, compute_us), "
             "more = (level, keep_ms, samples).");
}

}  // namespace taper
