// The text form of workloads: `.attn` files. Grammar and examples: ir/README.md.
//
// parse(print(w)) == w for every verified workload.
#pragma once

#include <string>
#include <string_view>

#include "ir/workload.h"

namespace harrier {

/// Reads one `attention NAME { ... }`. Throws InvalidInput whose message starts with "line:column: ", says what was
/// found and what was expected, and ends with the offending source line and a caret (the only message of more than one
/// line). Parsing does not verify.
Workload parse_workload(std::string_view text);

/// Where an expression stands decides what it may say: in where(...) arrays are int and there is no score; in
/// score(...) arrays are float (int inside indices) and `s` is the score so far.
enum class ExpressionUse { kWhere, kScore };

/// A mask or an expression alone, for tests, tools and the front ends.
Mask parse_mask(std::string_view text);
Expression parse_expression(std::string_view text, ExpressionUse use = ExpressionUse::kWhere);

/// Formatted text with every default spelled out, in a fixed order.
std::string print(const Workload& workload);
std::string print(const Mask& mask);
std::string print(const Expression& expression);
std::string print(const Pattern& pattern);
std::string print(const Shape& shape);
std::string print(const LengthDistribution& distribution);

/// The text that caches key on: pattern and shape as printed, without name, lengths and batch, on one line. Two
/// workloads with the same canonical text mean the same. Call on a simplified pattern.
std::string canonical_text(const Pattern& pattern, const Shape& shape);

}  // namespace harrier
