// Expressions of the pattern language as CUDA text, in the arithmetic of kernels/language.cuh.
#pragma once

#include <string>
#include <vector>

#include "ir/expression.h"
#include "ir/lowered.h"

namespace harrier {

/// `expression` as one C++ expression of type bool, Int or float. It reads `at` (a Position), `q` and `k` (Int), `s`
/// (float) and `count` (int: how often the key's box is listed). Arrays become slots in the order of `arrays`.
std::string emit_cuda_expression(const Expression& expression, const std::vector<ArraySlot>& arrays);

/// The same, converted to float.
std::string emit_cuda_float(const Expression& expression, const std::vector<ArraySlot>& arrays);

/// The place of an array among slots. It must be there.
int64_t array_slot(const std::vector<ArraySlot>& arrays, const std::string& name);

/// Where a load reads, in elements of its array.
std::string emit_cuda_place(const Load& load, const std::vector<ArraySlot>& arrays);

/// The same as emit_cuda_expression, as an int: how often the key is seen.
std::string emit_cuda_count(const Expression& expression, const std::vector<ArraySlot>& arrays);

}  // namespace harrier
