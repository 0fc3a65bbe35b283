// Floating-point elements from one type to another, to nearest even.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/npy.h"
#include "ir/workload.h"

namespace harrier {

float float_from_bfloat16(uint16_t bits);
float float_from_float16(uint16_t bits);
uint16_t bfloat16_from_float(float value);
uint16_t float16_from_float(float value);

/// The element type of tensors of `dtype`.
ElementType element_type_of(DataType dtype);

/// All elements as float32. `bytes` holds `count` elements of float16, bfloat16, float32 or float64.
std::vector<float> as_floats(const void* bytes, ElementType type, int64_t count);

/// The array in `dtype`. float16, bfloat16, float32 and float64 are converted; for bf16, uint16 counts as raw bits.
/// `name` is for the error on other types.
NpyArray in_dtype(NpyArray array, DataType dtype, const std::string& name);

}  // namespace harrier
