#include "compiler/float_arrays.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "compiler/bind_arrays.h"
#include "ir/error.h"

namespace harrier {
namespace {

template <typename T>
T element(const ArrayView& view, int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(view.data) + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

double half_to_double(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(fraction + 1024, exponent - 25);
}

double element_as_double(const ArrayView& view, int64_t index) {
  switch (view.type) {
    case ElementType::kFloat16:
      return half_to_double(element<uint16_t>(view, index));
    case ElementType::kBFloat16:
      return static_cast<double>(std::bit_cast<float>(uint32_t{element<uint16_t>(view, index)} << 16));
    case ElementType::kFloat32:
      return static_cast<double>(element<float>(view, index));
    default:
      return element<double>(view, index);
  }
}

bool is_allowed(double value, Infinities infinities) {
  if (std::isfinite(value)) return std::fabs(value) <= static_cast<double>(std::numeric_limits<float>::max());
  return infinities == Infinities::kNegative && value < 0;
}

}  // namespace

bool is_float_type(ElementType type) {
  return type == ElementType::kFloat16 || type == ElementType::kBFloat16 || type == ElementType::kFloat32 ||
         type == ElementType::kFloat64;
}

bool is_aligned(const void* data, size_t alignment) { return std::bit_cast<uintptr_t>(data) % alignment == 0; }

const float* to_float32(BoundPattern& bound, const std::string& name, const ArrayView& view, Infinities infinities) {
  if (!is_float_type(view.type)) {
    throw InvalidInput(
        fmt::format("@{} has elements of {}; expected floats; convert it to float32", name, name_of(view.type)));
  }
  const int64_t count = element_count(view.shape);
  std::shared_ptr<std::vector<float>> copy;
  if (view.type != ElementType::kFloat32 || !is_aligned(view.data, alignof(float))) {
    copy = std::make_shared<std::vector<float>>(static_cast<size_t>(count));
  }
  for (int64_t i = 0; i < count; ++i) {
    const double value = element_as_double(view, i);
    if (!is_allowed(value, infinities)) {
      throw InvalidInput(fmt::format("@{}{} is {}; expected finite float32 numbers{}", name, print_place(view.shape, i),
                                     value, infinities == Infinities::kNegative ? " or -inf" : ""));
    }
    if (copy != nullptr) (*copy)[static_cast<size_t>(i)] = static_cast<float>(value);
  }
  if (copy == nullptr) return static_cast<const float*>(view.data);
  const float* data = copy->data();
  bound.owned.push_back(std::move(copy));
  return data;
}

}  // namespace harrier
