#include "arrays.h"

#include <fmt/format.h>

#include <optional>

#include "ir/error.h"

namespace nb = nanobind;

namespace harrier::python {
namespace {

std::optional<ElementType> element_type(nb::dlpack::dtype type) {
  using Code = nb::dlpack::dtype_code;
  if (type.lanes != 1) return std::nullopt;
  switch (static_cast<Code>(type.code)) {
    case Code::Bool:
      return ElementType::kBool;
    case Code::Int:
      switch (type.bits) {
        case 8:
          return ElementType::kInt8;
        case 16:
          return ElementType::kInt16;
        case 32:
          return ElementType::kInt32;
        case 64:
          return ElementType::kInt64;
        default:
          return std::nullopt;
      }
    case Code::UInt:
      switch (type.bits) {
        case 8:
          return ElementType::kUInt8;
        case 16:
          return ElementType::kUInt16;
        case 32:
          return ElementType::kUInt32;
        case 64:
          return ElementType::kUInt64;
        default:
          return std::nullopt;
      }
    case Code::Float:
      switch (type.bits) {
        case 16:
          return ElementType::kFloat16;
        case 32:
          return ElementType::kFloat32;
        case 64:
          return ElementType::kFloat64;
        default:
          return std::nullopt;
      }
    case Code::Bfloat:
      return ElementType::kBFloat16;
    default:
      return std::nullopt;
  }
}

template <typename Array>
ElementType checked_type(const std::string& name, const Array& array) {
  const int device = array.device_type();
  const bool is_host = device == nb::device::cpu::value || device == nb::device::cuda_host::value;
  if (!is_host) {
    throw InvalidInput(
        fmt::format("{} lies on a device, this kernel reads the host's memory; bring it to the CPU, or use "
                    "harrier.attention for tensors of a GPU",
                    name));
  }
  const std::optional<ElementType> type = element_type(array.dtype());
  if (!type) {
    throw InvalidInput(
        fmt::format("{} holds elements of {} bits of a kind that no kernel reads; convert it to float32, float16 or "
                    "bfloat16",
                    name, static_cast<int>(array.dtype().bits)));
  }
  return *type;
}

template <typename Array>
std::vector<int64_t> shape_of(const Array& array) {
  std::vector<int64_t> shape;
  for (size_t i = 0; i < array.ndim(); ++i) shape.push_back(static_cast<int64_t>(array.shape(i)));
  return shape;
}

template <typename Array>
TensorView view(const std::string& name, const Array& array) {
  const ElementType type = checked_type(name, array);
  TensorView tensor{.data = const_cast<void*>(static_cast<const void*>(array.data())),
                    .dtype = DataType::kFloat32,
                    .shape = shape_of(array),
                    .strides = {}};
  if (type == ElementType::kFloat16) {
    tensor.dtype = DataType::kFloat16;
  } else if (type == ElementType::kBFloat16 || type == ElementType::kUInt16) {
    tensor.dtype = DataType::kBFloat16;
  } else if (type != ElementType::kFloat32) {
    throw InvalidInput(
        fmt::format("{} holds {}, kernels take float32, float16 and bfloat16; convert it", name, name_of(type)));
  }
  for (size_t i = 0; i < array.ndim(); ++i) tensor.strides.push_back(array.stride(i));
  return tensor;
}

bool is_dense(const ReadArray& array) {
  int64_t expected = 1;
  for (size_t i = array.ndim(); i-- > 0;) {
    if (array.shape(i) > 1 && array.stride(i) != expected) return false;
    expected *= static_cast<int64_t>(array.shape(i));
  }
  return true;
}

}  // namespace

TensorView view_tensor(const std::string& name, const ReadArray& array) { return view(name, array); }

TensorView view_tensor(const std::string& name, const WrittenArray& array) { return view(name, array); }

Bindings view_bindings(const ReadArrays& arrays) {
  Bindings bindings;
  for (const auto& [name, array] : arrays) {
    const ElementType type = checked_type("@" + name, array);
    if (array.size() > 0 && !is_dense(array)) {
      throw InvalidInput(fmt::format("@{} has gaps between its elements; make it contiguous", name));
    }
    bindings[name] = {.data = array.data(), .type = type, .shape = shape_of(array)};
  }
  return bindings;
}

}  // namespace harrier::python
