// Differentiates the score symbolically: its slopes are expressions of the same language, which code generators
// evaluate like any other.
//
// Where a function has a corner, one of its one-sided slopes is taken: abs(x) rises at 0; min and max follow their left
// operand where both are equal; select follows the branch it takes. Comparisons, integers and whatever is made of them
// are constant. A slope that is 0 stays 0 through log and sqrt, even where these have none.
#pragma once

#include <vector>

#include "ir/lowered.h"

namespace harrier {

/// d function(x), given x and dx.
struct UnarySlopeRule {
  UnaryKind kind;
  const char* name;  // as mathematics: "d exp(x) = exp(x) dx"
  Expression (*apply)(const Expression& x, const Expression& dx);
};

/// d (x operator y), given x, dx, y and dy.
struct BinarySlopeRule {
  BinaryKind kind;
  const char* name;
  Expression (*apply)(const Expression& x, const Expression& dx, const Expression& y, const Expression& dy);
};

/// One rule for each operator that gives floats.
const std::vector<UnarySlopeRule>& unary_slope_rules();
const std::vector<BinarySlopeRule>& binary_slope_rules();

/// The derivative of `expression` in `variable` (s, or a load of a float array; equal loads are one variable): a float
/// expression, kept small by the identities of 0, 1 and signs.
Expression derivative(const Expression& expression, const Expression& variable);

/// The slopes of a lowered score.
ScoreSlopes differentiate(const LoweredPattern& lowered);

}  // namespace harrier
