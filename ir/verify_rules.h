// What the verifier's files share. Internal to ir: the public face is verify.h.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "ir/error.h"
#include "ir/text.h"

namespace harrier {

/// Positions, lengths and counts are int32 in kernels.
inline constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

template <typename... Values>
[[noreturn]] void refuse(fmt::format_string<Values...> format, Values&&... values) {
  throw InvalidInput(fmt::format(format, std::forward<Values>(values)...));
}

/// Refuses an integer outside [min, max], in words: "WHAT is VALUE, expected MIN..MAX; REMEDY".
void check_range(int64_t value, int64_t min, int64_t max, const char* what, const char* remedy);

/// Refuses what is not a word of the language: letters, digits and _, not starting with a digit.
void check_name(const std::string& name, const char* what);

/// Refuses numbers that fp32, in which kernels compute, does not hold.
void check_float32(double value, const char* what);

/// Types, element types, places of `s`, operands, indices and depth of an expression.
void verify_expression(const Expression& expression, ExpressionUse use);

}  // namespace harrier
