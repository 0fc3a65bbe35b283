#include "cli/convert.h"

#include <fmt/core.h>

#include <bit>
#include <cstring>

#include "ir/error.h"

namespace harrier {
namespace {

template <typename Source, typename Convert>
std::vector<float> convert_all(const void* bytes, int64_t count, Convert convert) {
  std::vector<float> result(static_cast<size_t>(count));
  const auto* source = static_cast<const std::byte*>(bytes);
  for (size_t i = 0; i < result.size(); ++i) {
    Source value;
    std::memcpy(&value, source + i * sizeof(Source), sizeof(Source));
    result[i] = convert(value);
  }
  return result;
}

}  // namespace

float float_from_bfloat16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

float float_from_float16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1f;
  const uint32_t fraction = bits & 0x3ff;
  if (exponent == 0) {
    // Zero and subnormals: a multiple of 2^-24, which float32 holds exactly.
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide_exponent = exponent == 0x1f ? 0xff : exponent + 112;
  return std::bit_cast<float>(sign | wide_exponent << 23 | fraction << 13);
}

uint16_t bfloat16_from_float(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (value != value)
    return static_cast<uint16_t>(bits >> 16 | 0x40);  // Quiet, so that rounding cannot end at infinity.
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

uint16_t float16_from_float(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and above round to infinity.
  if (magnitude < 0x38800000) {
    // Below 2^-14: adding 0.5 leaves the multiple of 2^-24, rounded to even by the adder, in the low bits.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
}

ElementType element_type_of(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32:
      return ElementType::kFloat32;
    case DataType::kBFloat16:
      return ElementType::kBFloat16;
    case DataType::kFloat16:
      return ElementType::kFloat16;
  }
  raise_internal_error(__FILE__, __LINE__, "every dtype has an element type");
}

std::vector<float> as_floats(const void* bytes, ElementType type, int64_t count) {
  switch (type) {
    case ElementType::kFloat16:
      return convert_all<uint16_t>(bytes, count, float_from_float16);
    case ElementType::kBFloat16:
      return convert_all<uint16_t>(bytes, count, float_from_bfloat16);
    case ElementType::kFloat32:
      return convert_all<float>(bytes, count, [](float value) { return value; });
    case ElementType::kFloat64:
      return convert_all<double>(bytes, count, [](double value) { return static_cast<float>(value); });
    default:
      break;
  }
  raise_internal_error(__FILE__, __LINE__, "only floating-point arrays are converted");
}

NpyArray in_dtype(NpyArray array, DataType dtype, const std::string& name) {
  const ElementType wanted = element_type_of(dtype);
  if (array.type == wanted) return array;
  if (wanted == ElementType::kBFloat16 && array.type == ElementType::kUInt16) {
    array.type = wanted;
    return array;
  }
  const bool is_float = array.type == ElementType::kFloat16 || array.type == ElementType::kBFloat16 ||
                        array.type == ElementType::kFloat32 || array.type == ElementType::kFloat64;
  if (!is_float) {
    throw InvalidInput(fmt::format("{}: dtype {} cannot be read as {}: save it as float32", name, name_of(array.type),
                                   name_of(dtype)));
  }
  const int64_t count = element_count(array.shape);
  const std::vector<float> values = as_floats(array.bytes.data(), array.type, count);
  NpyArray result{.type = wanted, .shape = array.shape, .bytes = {}};
  result.bytes.resize(static_cast<size_t>(count * bytes_of(wanted)));
  if (wanted == ElementType::kFloat32) {
    if (count > 0) std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
    return result;
  }
  const auto narrow = wanted == ElementType::kBFloat16 ? bfloat16_from_float : float16_from_float;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = narrow(values[i]);
    std::memcpy(result.bytes.data() + 2 * i, &bits, 2);
  }
  return result;
}

}  // namespace harrier
