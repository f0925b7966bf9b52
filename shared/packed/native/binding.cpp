// The Python module shared.packed._native. All arguments are checked here before memory is read.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "binding_engine.hpp"
#include "coder.hpp"
#include "dispatch.hpp"
#include "half.hpp"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: "name"_a

namespace {

using taper::CoderSpec;
using taper::ContextCoder;
using taper::ContextDecoder;
using taper::Half;
using taper::HalfSpec;
using taper::Kernels;
using taper::Stage;

constexpr long kPeakRounds = 200000;
constexpr std::size_t kMostRows = 65535;

[[noreturn]] void refuse(const std::string& message) { throw nb::value_error(message.c_str()); }

template <class T>
struct Format;
template <>
struct Format<std::uint8_t> {
  static constexpr char kCode = 'B';
  static constexpr const char* kName = "uint8";
};
template <>
struct Format<std::int16_t> {
  static constexpr char kCode = 'h';
  static constexpr const char* kName = "int16";
};
template <>
struct Format<std::uint16_t> {
  static constexpr char kCode = 'H';
  static constexpr const char* kName = "uint16";
};
template <>
struct Format<std::int32_t> {
  static constexpr char kCode = 'i';
  static constexpr const char* kName = "int32";
};
template <>
struct Format<float> {
  static constexpr char kCode = 'f';
  static constexpr const char* kName = "float32";
};

// The contiguous memory of a Python object, of type T with `dimensions` axes (0: any number). The
// object is held as long as this one exists.
template <class T>
class Buffer {
 public:
  Buffer(const char* name, nb::handle object, int dimensions, bool writable = false) {
    const int flags = PyBUF_FORMAT | PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
      PyErr_Clear();
      refuse(std::string(name) + ": must be " + (writable ? "a writable " : "a ") +
             Format<T>::kName + " array");
    }
    const char* format = view_.format == nullptr ? "B" : view_.format;
    const bool typed = format[0] == Format<T>::kCode && format[1] == '\0' &&
                       view_.itemsize == static_cast<Py_ssize_t>(sizeof(T));
    const bool shaped = dimensions == 0 ? view_.ndim >= 1 : view_.ndim == dimensions;
    const bool dense = PyBuffer_IsContiguous(&view_, 'C') != 0;
    if (typed && shaped && dense) return;
    const std::string found = describe(format);
    PyBuffer_Release(&view_);
    std::string wanted = std::string(Format<T>::kName) + ", contiguous";
    if (dimensions > 0) wanted += ", with " + std::to_string(dimensions) + " axes";
    refuse(std::string(name) + ": " + found + " is not allowed, must be " + wanted);
  }
  ~Buffer() { PyBuffer_Release(&view_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() const { return static_cast<T*>(view_.buf); }
  std::size_t size() const { return static_cast<std::size_t>(view_.len) / sizeof(T); }
  std::size_t rows() const { return static_cast<std::size_t>(view_.shape[0]); }

 private:
  std::string describe(const char* format) const {
    std::string text = std::string("format ") + format + " of shape (";
    for (int i = 0; i < view_.ndim; ++i) text += (i ? ", " : "") + std::to_string(view_.shape[i]);
    return text + (view_.ndim == 1 ? ",)" : ")");
  }

  Py_buffer view_;
};

template <class T>
std::vector<T> values_of(const nb::dict& stage, const char* name, int dimensions) {
  const Buffer<T> buffer(name, stage[name], dimensions);
  return std::vector<T>(buffer.data(), buffer.data() + buffer.size());
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
  stage.stride = nb::cast<int>(from["stride"]);
  stage.weight = values_of<std::uint8_t>(from, "weight", 2);
  stage.coefficients = values_of<std::int32_t>(from, "coefficients", 1);
  stage.threshold = values_of<std::int32_t>(from, "threshold", 2);
  stage.flip = values_of<std::uint8_t>(from, "flip", 2);
  stage.scale = values_of<float>(from, "scale", 2);
  stage.bias = values_of<float>(from, "bias", 2);
  stage.low_threshold = values_of<std::int32_t>(from, "low_threshold", 2);
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

void check_size(const char* name, std::size_t size, std::size_t rows, std::size_t columns) {
  if (size != rows * columns) {
    refuse(std::string(name) + ": has " + std::to_string(size) + " values, must have " +
           std::to_string(rows) + " times " + std::to_string(columns));
  }
}

void run(const Half& half, nb::handle input, std::int64_t plan_number, nb::handle output) {
  const std::size_t plan = plan_of(half, plan_number);
  const Buffer<std::uint8_t> from("input", input, 0);
  const std::size_t batch = from.rows();
  const std::size_t width = half.output_bytes(plan);
  check_size("input", from.size(), batch, half.input_bytes(plan));
  if (half.gives_logits()) {
    const Buffer<float> to("output", output, 2, true);
    check_size("output", to.size(), batch, width / sizeof(float));
    nb::gil_scoped_release release;
    half.run(plan, from.data(), batch, reinterpret_cast<std::uint8_t*>(to.data()));
  } else {
    const Buffer<std::uint8_t> to("output", output, 2, true);
    check_size("output", to.size(), batch, width);
    nb::gil_scoped_release release;
    half.run(plan, from.data(), batch, to.data());
  }
}

std::vector<double> profile(const Half& half, nb::handle input, std::int64_t plan_number,
                            int repeats) {
  const std::size_t plan = plan_of(half, plan_number);
  const Buffer<std::uint8_t> from("input", input, 0);
  check_size("input", from.size(), 1, half.input_bytes(plan));
  if (repeats < 1) refuse("repeats: must be at least 1");
  nb::gil_scoped_release release;
  return half.profile(plan, from.data(), repeats);
}

std::vector<std::string> available() {
  const Kernels* found[taper::kMostKernels];
  const int count = taper::available_kernels(found);
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.emplace_back(found[i]->name);
  return names;
}

// Measures binary multiply-accumulates per second in registers.
double peak(const std::string& name) {
  const Kernels& kernels = kernels_named(name);
  nb::gil_scoped_release release;
  const auto begin = std::chrono::steady_clock::now();
  const double operations = kernels.peak(kPeakRounds);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  return operations / elapsed.count();
}

template <class T>
std::vector<T> copy_of(const char* name, nb::handle object, int dimensions) {
  const Buffer<T> buffer(name, object, dimensions);
  return std::vector<T>(buffer.data(), buffer.data() + buffer.size());
}

// The tables are arrays with the shapes of CoderSpec; `hidden` is the length of the rows of `base`.
void make_coder(ContextCoder* self, int height, int width, nb::handle base, nb::handle neighbour,
                nb::handle channel, nb::handle output, nb::handle bias, nb::handle probability) {
  CoderSpec spec{};
  spec.height = height;
  spec.width = width;
  spec.base = copy_of<std::int16_t>("base", base, 2);
  spec.neighbour = copy_of<std::int16_t>("neighbour", neighbour, 2);
  spec.channel = copy_of<std::int16_t>("channel", channel, 2);
  spec.output = copy_of<std::int16_t>("output", output, 2);
  spec.bias = copy_of<std::int32_t>("bias", bias, 1);
  spec.probability = copy_of<std::uint16_t>("probability", probability, 1);
  const Buffer<std::int16_t> rows("channel", channel, 2);
  if (rows.rows() == 0 || rows.rows() > kMostRows) refuse("channel: must have 1 to 65535 rows");
  spec.channels = static_cast<int>(rows.rows());
  spec.hidden = static_cast<int>(std::min<std::size_t>(rows.size() / rows.rows(), kMostRows));
  new (self) ContextCoder(std::move(spec));
}

std::optional<nb::bytes> encode(const ContextCoder& coder, nb::handle input, std::size_t limit) {
  const Buffer<std::uint8_t> from("input", input, 2);
  check_size("input", from.size(), from.rows(), coder.sample_bytes());
  std::optional<std::vector<std::uint8_t>> payload;
  {
    nb::gil_scoped_release release;
    payload = coder.encode(from.data(), from.rows(), limit);
  }
  if (!payload) return std::nullopt;
  return nb::bytes(payload->data(), payload->size());
}

bool decode(const ContextCoder& coder, nb::bytes payload, nb::handle output) {
  const Buffer<std::uint8_t> to("output", output, 2, true);
  check_size("output", to.size(), to.rows(), coder.sample_bytes());
  const auto* from = static_cast<const std::uint8_t*>(payload.data());
  nb::gil_scoped_release release;
  return coder.decode(from, payload.size(), to.rows(), to.data());
}

// A decoder, together with the Python objects that own the memory that it reads.
class OwningDecoder {
 public:
  OwningDecoder(nb::object coder, nb::bytes payload)
      : coder_(std::move(coder)),
        payload_(std::move(payload)),
        decoder_(*nb::cast<ContextCoder*>(coder_),
                 static_cast<const std::uint8_t*>(payload_.data()), payload_.size()) {}

  bool next(nb::handle output) {
    const Buffer<std::uint8_t> to("output", output, 2, true);
    check_size("output", to.size(), to.rows(), nb::cast<ContextCoder*>(coder_)->sample_bytes());
    nb::gil_scoped_release release;
    return decoder_.next(to.rows(), to.data());
  }

  bool finished() const { return decoder_.finished(); }

 private:
  nb::object coder_;
  nb::bytes payload_;
  ContextDecoder decoder_;
};

int vector_bits(const std::string& name) { return kernels_named(name).vector_bits; }

}  // namespace

NB_MODULE(_native, module) {
  nb::set_leak_warnings(false);  // some objects live until the process exits
  module.doc() = "Compiled kernels of the packed runtime.";
  module.def("available", &available, "Names of the implementations for this CPU, best first.");
  module.def("vector_bits", &vector_bits, "name"_a, "Width of an implementation's vectors.");
  module.def("peak", &peak, "name"_a, "Binary multiply-accumulates a second on registers alone.");
  nb::class_<ContextCoder>(module, "ContextCoder", "Codes packed maps of bits; safe in many threads.")
      .def("__init__", &make_coder, "height"_a, "width"_a, "base"_a, "neighbour"_a, "channel"_a,
           "output"_a, "bias"_a, "probability"_a)
      .def("encode", &encode, "input"_a.none(), "limit"_a,
           "input uint8 (batch, sample_bytes) -> fewer than `limit` bytes, or None.")
      .def("decode", &decode, "payload"_a, "output"_a.none(),
           "Fills output uint8 (batch, sample_bytes); False if the payload is not what was coded.")
      .def("decoder", [](nb::object coder, nb::bytes payload) {
        return new OwningDecoder(std::move(coder), std::move(payload));
      }, "payload"_a, "What decodes some samples at a time; for one thread at a time.")
      .def_prop_ro("sample_bytes", &ContextCoder::sample_bytes);
  nb::class_<OwningDecoder>(module, "ContextDecoder", "Decodes a payload some samples at a time.")
      .def("next", &OwningDecoder::next, "output"_a.none(),
           "Fills output uint8 (batch, sample_bytes); False once bytes are missing.")
      .def("finished", &OwningDecoder::finished,
           "Whether the payload is exactly what gives the samples that were read.");
  taper::bind_engine(module);
  nb::class_<Half>(module, "Half", "Stages that run in one call.")
      .def("__init__", &make_half, "kernels"_a, "shape"_a, "stages"_a, "plans"_a)
      .def("run", &run, "input"_a.none(), "plan"_a, "output"_a.none(),
           "input uint8 (batch, ...) of input_bytes each -> output (batch, ...), uint8 or float32.")
      .def("profile", &profile, "input"_a.none(), "plan"_a, "repeats"_a,
           "Seconds of decoding, of each stage, of encoding, for one sample.")
      .def_prop_ro("kernels", [](const Half& half) { return half.kernels().name; })
      .def("input_bytes", [](const Half& half, std::int64_t plan) {
        return half.input_bytes(plan_of(half, plan));
      })
      .def("output_bytes", [](const Half& half, std::int64_t plan) {
        return half.output_bytes(plan_of(half, plan));
      });
}
