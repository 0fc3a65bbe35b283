// The proof that the emulated GPU is right: kernels that ran right on an H100 run right here.
#include <cmath>

#include "device.h"
#include "forward_case.h"

namespace harrier::test {
namespace {

const std::vector<Sequence> kLengths = {{0, 5}, {1, 1}, {63, 63}, {64, 64}, {65, 65}, {127, 200}, {200, 127}, {5, 0}};

void expect_right(const ForwardCase& forward) {
  const Comparison found = run(forward);
  EXPECT_LT(found.output_error, 6e-3) << forward.stub;
  EXPECT_LT(found.lse_error, 2e-3) << forward.stub;
  EXPECT_EQ(found.mismatched, 0) << forward.stub;
}

int aligned(const Pair& at) { return at.query + at.sequence.keys - at.sequence.queries; }

ForwardCase causal(const std::string& stub) {
  ForwardCase forward;
  forward.stub = stub;
  forward.sequences = kLengths;
  forward.integers = {0};
  forward.count = [](const Pair& at) { return at.key <= aligned(at) ? 1 : 0; };
  return forward;
}

TEST(EmulatedForward, CausalPacked) { expect_right(causal("causal_d64")); }

TEST(EmulatedForward, CausalPadded) {
  ForwardCase forward = causal("causal_d64");
  forward.packed = false;
  forward.sequences = {{400, 400}, {400, 400}, {400, 400}};
  forward.valid = {400, 129, 0};
  expect_right(forward);
}

}  // namespace
}  // namespace harrier::test
