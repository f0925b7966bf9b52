// The Python module shared.packed._native. Everything is checked here before memory is read.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <limits>
#include <memory>
#include <string>
#include <type_traits>

#include "dispatch.hpp"
#include "half.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using taper::Half;
using taper::HalfSpec;
using taper::Kernels;
using taper::Stage;

[[noreturn]] void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

using Array = nb::ndarray<nb::ro>;
using Writable = nb::ndarray<>;

template <class A>
std::string describe(const A& array) {
  static const char* const kKinds[] = {"int", "uint", "float"};
  const auto type = array.dtype();
  std::string text = type.code < 3 ? kKinds[type.code] : "type";
  text += std::to_string(type.bits) + "(";
  for (std::size_t i = 0; i < array.ndim(); ++i) {
    text += (i ? ", " : "") + std::to_string(array.shape(i));
  }
  return text + ")";
}

// The memory of `array` if it has the type T, these dimensions, and no gaps.
template <class T, class A>
auto* memory_of(const std::string& name, const A& array, std::size_t dimensions) {
  const std::string wanted = nb::dtype<T>() == nb::dtype<float>()         ? "float32"
                       : nb::dtype<T>() == nb::dtype<std::int32_t>() ? "int32"
                                                                     : "uint8";
  bool fits = array.dtype() == nb::dtype<T>() && array.ndim() == dimensions &&
              array.device_type() == nb::device::cpu::value;
  if (!fits) {
    refuse(name + ": " + describe(array) + " is not allowed, must be " + wanted + " with " +
           std::to_string(dimensions) + " dimensions");
  }
  std::int64_t step = 1;
  for (std::size_t i = dimensions; i-- > 0;) {
    if (array.shape(i) > 1 && array.stride(i) != step) fits = false;
    step *= static_cast<std::int64_t>(array.shape(i));
  }
  if (!fits && step != 0) refuse(name + ": must be contiguous, last axis fastest");
  using Pointer = std::conditional_t<std::is_same_v<A, Writable>, T*, const T*>;
  return static_cast<Pointer>(array.data());
}

template <class T>
std::vector<T> values_of(const nb::dict& stage, const char* name, std::size_t dimensions) {
  const auto array = nb::cast<Array>(stage[name]);
  const T* values = memory_of<T>(name, array, dimensions);
  if (array.size() == 0) return {};
  return std::vector<T>(values, values + array.size());
}

Stage stage_of(const nb::dict& from) {
  const auto kind = nb::cast<std::string>(from["kind"]);
  Stage stage{};
  if (kind == "image_conv") {
    stage.kind = taper::Kind::kImageConv;
  } else if (kind == "binary_conv") {
    stage.kind = taper::Kind::kBinaryConv;
  } else if (kind == "binary_linear") {
    stage.kind = taper::Kind::kBinaryLinear;
  } else {
    refuse("kind: must be image_conv, binary_conv or binary_linear");
  }
  stage.in_channels = nb::cast<int>(from["in_channels"]);
  stage.out_channels = nb::cast<int>(from["out_channels"]);
  stage.pool = nb::cast<int>(from["pool"]);
  stage.weight = values_of<std::uint8_t>(from, "weight", 2);
  stage.coefficients = values_of<std::int32_t>(from, "coefficients", 1);
  stage.threshold = values_of<std::int32_t>(from, "threshold", 2);
  stage.flip = values_of<std::uint8_t>(from, "flip", 2);
  stage.scale = values_of<float>(from, "scale", 2);
  stage.bias = values_of<float>(from, "bias", 2);
  return stage;
}

const Kernels& kernels_named(const std::string& name) {
  const Kernels* found[taper::kMostKernels];
  const int count = taper::available_kernels(found);
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (name == found[i]->name) return *found[i];
    names += (i ? ", " : "") + std::string(found[i]->name);
  }
  refuse("kernels: '" + name + "' is not available here, must be one of " + names);
}

// Half(kernels, (height, width, channels), stages, plans): stages are dicts with the fields of a
// bundle's stage; plans are (in_channels, [outputs of each stage]), one for each table row.
void make_half(Half* self, const std::string& kernels, nb::tuple shape, nb::list stages,
               nb::list plans) {
  HalfSpec spec{};
  try {
    if (shape.size() != 3) refuse("shape: must be (height, width, channels)");
    spec.height = nb::cast<int>(shape[0]);
    spec.width = nb::cast<int>(shape[1]);
    spec.channels = nb::cast<int>(shape[2]);
    for (nb::handle stage : stages) spec.stages.push_back(stage_of(nb::cast<nb::dict>(stage)));
    for (nb::handle plan : plans) {
      const auto pair = nb::cast<nb::tuple>(plan);
      if (pair.size() != 2) refuse("plans: must be (in_channels, outputs)");
      spec.plans.push_back({nb::cast<int>(pair[0]), nb::cast<std::vector<int>>(pair[1])});
    }
  } catch (const nb::cast_error&) {
    refuse("half: a field has the wrong type");
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_KeyError)) throw;
    refuse(std::string("half: a field is missing: ") + error.what());
  }
  new (self) Half(spec, kernels_named(kernels));
}

std::size_t plan_of(const Half& half, std::int64_t plan) {
  if (plan < 0 || plan >= static_cast<std::int64_t>(half.plan_count())) {
    refuse("plan: " + std::to_string(plan) + " is not allowed, must be 0 to " +
           std::to_string(half.plan_count() - 1));
  }
  return static_cast<std::size_t>(plan);
}

template <class A>
void check_columns(const char* name, const A& array, std::size_t rows,
                   std::size_t columns) {
  if (array.shape(0) != rows || array.shape(1) != columns) {
    refuse(std::string(name) + ": " + describe(array) + " is not allowed, must be (" +
           std::to_string(rows) + ", " + std::to_string(columns) + ")");
  }
}

void run(const Half& half, Array input, std::int64_t plan_number, Writable output) {
  const std::size_t plan = plan_of(half, plan_number);
  const auto* from = memory_of<std::uint8_t>("input", input, 2);
  const std::size_t batch = input.shape(0);
  check_columns("input", input, batch, half.input_bytes(plan));
  std::uint8_t* to;
  if (half.gives_logits()) {
    to = reinterpret_cast<std::uint8_t*>(memory_of<float>("output", output, 2));
    check_columns("output", output, batch, half.output_bytes(plan) / sizeof(float));
  } else {
    to = memory_of<std::uint8_t>("output", output, 2);
    check_columns("output", output, batch, half.output_bytes(plan));
  }
  nb::gil_scoped_release release;
  half.run(plan, from, batch, to);
}

std::vector<double> profile(const Half& half, Array input, std::int64_t plan_number,
                            int repeats) {
  const std::size_t plan = plan_of(half, plan_number);
  const auto* from = memory_of<std::uint8_t>("input", input, 2);
  check_columns("input", input, 1, half.input_bytes(plan));
  if (repeats < 1) refuse("repeats: must be at least 1");
  nb::gil_scoped_release release;
  return half.profile(plan, from, repeats);
}

std::vector<std::string> available() {
  const Kernels* found[taper::kMostKernels];
  const int count = taper::available_kernels(found);
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.emplace_back(found[i]->name);
  return names;
}

int vector_bits(const std::string& name) { return kernels_named(name).vector_bits; }

}  // namespace

NB_MODULE(_native, module) {
  module.doc() = "Compiled kernels of the packed runtime.";
  module.def("available", &available, "Names of the implementations for this CPU, best first.");
  module.def("vector_bits", &vector_bits, "name"_a, "Width of an implementation's vectors.");
  nb::class_<Half>(module, "Half", "Stages that run in one call.")
      .def("__init__", &make_half, "kernels"_a, "shape"_a, "stages"_a, "plans"_a)
      .def("run", &run, "input"_a, "plan"_a, "output"_a,
           "input (batch, input_bytes) uint8 -> output (batch, ...), uint8 or float32.")
      .def("profile", &profile, "input"_a, "plan"_a, "repeats"_a,
           "Seconds of decoding, of each stage, of encoding, for one sample.")
      .def_prop_ro("kernels", [](const Half& half) { return half.kernels().name; })
      .def("input_bytes", [](const Half& half, std::int64_t plan) {
        return half.input_bytes(plan_of(half, plan));
      })
      .def("output_bytes", [](const Half& half, std::int64_t plan) {
        return half.output_bytes(plan_of(half, plan));
      });
}
