// Interval arithmetic with the language's integer semantics: wrapping, floor division, comparisons that may be
// open.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>

#include "compiler/expression_range.h"
#include "ir/expression.h"

namespace harrier {

inline constexpr Range kInt32{.low = std::numeric_limits<int32_t>::min(), .high = std::numeric_limits<int32_t>::max()};
inline constexpr Range kUndecided{.low = 0, .high = 1};

/// What the integers of `range` become at 32 bits: shifted when all wrap alike, otherwise anything.
Range wrapped(Range range);

/// The smallest range that holds all.
Range hull(std::initializer_list<int64_t> values);
Range hull(Range left, Range right);

bool is_single(Range range);
Range absolute(Range range);

/// 0, 1, or either: whether a value is true. Nothing known is either.
Range truth(std::optional<Range> range);

/// A superset of the results of `kind` over int32 operands in the two ranges; exact when both are single values.
Range calculate(BinaryKind kind, Range left, Range right);

}  // namespace harrier
