// For tests: kernels of a backward launch on the emulated GPU with parameters filled by hand, beside a reference in
// fp64.
#pragma once

#include "forward_case.h"

namespace harrier::test {

struct BackwardCase {
  std::string source;   // of the kernels; entries that it lacks are not run
  ForwardCase pattern;  // whose gradient; its stub is not read, and its boxes are key tiles
  std::function<double(const Pair&, double)> slope;  // of pattern.score; null where that is
};

/// Relative errors of the gradients, and numbers that are not finite, or not exactly zero where they must be, or that
/// lie outside of all sequences and changed.
struct GradientComparison {
  double d_query_error;
  double d_key_error;
  double d_value_error;
  int mismatched;
  std::vector<float> d_query_sums;  // of the kernels that have some
};

/// On a GPU for which the kernels are made. Statistics, orders, lists of columns and what joins the parts of split
/// columns are the host's.
GradientComparison run(const BackwardCase& backward);

/// Fails the test where a gradient is further from the reference than 16 bits explain.
void expect_right(const BackwardCase& backward);

}  // namespace harrier::test
