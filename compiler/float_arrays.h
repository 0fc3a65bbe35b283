// Float arrays of a pattern as float32, checked to hold numbers.
#pragma once

#include <cstddef>
#include <string>

#include "compiler/bind.h"
#include "ir/geometry.h"

namespace harrier {

bool is_float_type(ElementType type);
bool is_aligned(const void* data, size_t alignment);

/// Whether minus infinity may stand in an array (in a bias it hides a pair).
enum class Infinities { kRefused, kNegative };

/// The array as float32: the caller's memory where it is that already, else a copy that `bound` owns. Throws
/// InvalidInput for another kind of number and for the first NaN, forbidden infinity, or number past float32.
const float* to_float32(BoundPattern& bound, const std::string& name, const ArrayView& view, Infinities infinities);

}  // namespace harrier
