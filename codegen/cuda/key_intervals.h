// Which keys a query sees, as intervals: the closed form from which kernels walk key tiles without any list.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "ir/expression.h"

namespace harrier {

/// A sum of +1 / -1 times query, of +1 / -1 times expressions that are the same for a whole row, of +1 / -1 times
/// segment bounds (`rising`: they do not fall as the query grows), and a constant. Lengths and parameters are kept
/// below 2^30 at launch, so the sum does not wrap.
struct LinearBound {
  int query = 0;
  std::vector<std::pair<int, Expression>> terms;
  std::vector<std::pair<int, Expression>> rising;
  int64_t constant = 0;
  bool operator==(const LinearBound&) const = default;
};

/// Queries that satisfy every lower <= q and q < upper see the keys with every lower <= k and k < upper. Key bounds do
/// not fall as the query grows, so a row's first and last query bound what lies between.
struct KeyInterval {
  std::vector<LinearBound> key_lower;
  std::vector<LinearBound> key_upper;
  std::vector<LinearBound> query_lower;
  std::vector<LinearBound> query_upper;
  bool operator==(const KeyInterval&) const = default;
};

/// The union of `intervals` is what `visible` shows when `exact`, and otherwise holds it.
struct KeyIntervals {
  std::vector<KeyInterval> intervals;
  bool exact = true;
};

/// At most four intervals; anything that is no union of so few becomes one unlimited interval that is not exact. No
/// interval at all: nothing is visible.
KeyIntervals key_intervals(const std::optional<Expression>& visible);

}  // namespace harrier
