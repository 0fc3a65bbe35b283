// Keys that count more than once, where the predicate hides some pairs of a listed box and leaves others.
#include "device.h"
#include "forward_case.h"

namespace harrier::test {
namespace {

/// The families of kernels, by the end of their stubs' names.
class EmulatedCounts : public testing::TestWithParam<std::string> {
 protected:
  ForwardCase counted_causal() const {
    ForwardCase forward;
    forward.stub = "counted_causal_d64" + GetParam();
    forward.sequences = {{0, 5}, {1, 1}, {63, 63}, {64, 64}, {65, 65}, {200, 200}, {127, 200}};
    forward.integers = {0};
    forward.evaluated = true;
    forward.boxes = [](int, int head, int row, int box) { return (head + 2 * row + box) % 4; };
    forward.count = [boxes = forward.boxes](const Pair& at) {
      const int query = at.query + at.sequence.keys - at.sequence.queries;
      return at.key <= query ? boxes(at.batch, at.head, at.query / 64, at.key / 64) : 0;
    };
    return forward;
  }
};

TEST_P(EmulatedCounts, OfATableBelowTheDiagonal) { expect_right(counted_causal()); }

TEST_P(EmulatedCounts, InParts) {
  ForwardCase forward = counted_causal();
  forward.split_tiles = 1;
  expect_right(forward);
}

INSTANTIATE_TEST_SUITE_P(Families, EmulatedCounts, testing::Values("", "_sm80"),
                         [](const auto& instance) { return instance.param.empty() ? "sm90" : "sm80"; });

}  // namespace
}  // namespace harrier::test
