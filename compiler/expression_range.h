// The values that an integer expression can take over a box of positions: what proves indices in range and decides
// whole tiles of where(...).
#pragma once

#include <cstdint>
#include <optional>

#include "compiler/bind.h"
#include "ir/expression.h"

namespace harrier {

/// Both ends inclusive.
struct Range {
  int64_t low;
  int64_t high;
  bool operator==(const Range&) const = default;
};

/// The box: where each variable lies. Exact positions are ranges of one value.
struct VariableRanges {
  Range b;
  Range h;
  Range q;
  Range k;
  Range q_len;
  Range kv_len;
  Range q_token;
  Range k_token;
};

/// A superset of the values (bool: 0 or 1) that `expression` takes over the box, loads reading `bound.views`; empty
/// when nothing is known (floating point). Over a box of one position an integer expression gives exactly its value.
std::optional<Range> range_of(const Expression& expression, const VariableRanges& variables, const BoundPattern& bound);

}  // namespace harrier
