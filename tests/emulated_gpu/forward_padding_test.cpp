// Keys past the valid ones, and keys that the mask hides: excluded, attended with less score, or counted.
#include "device.h"
#include "forward_case.h"

namespace harrier::test {
namespace {

/// The families of kernels, by the end of their stubs' names.
class EmulatedPadding : public testing::TestWithParam<std::string> {
 protected:
  /// Padded sequences of which everything, more than half, nothing, and one key short of a block is real.
  ForwardCase padded(const std::string& name) const {
    ForwardCase forward;
    forward.stub = name + GetParam();
    forward.packed = false;
    forward.sequences.assign(4, {256, 256});
    forward.valid = {256, 129, 0, 63};
    return forward;
  }

  /// A table in which most blocks are hidden, some count three times, and one row of blocks sees nothing.
  ForwardCase additive() const {
    ForwardCase forward = padded("bigbird_padded_d64");
    forward.padding = -2.0;
    forward.boxes = [](int, int head, int row, int box) {
      const int draw = (head * 7 + row * 5 + box * 3) % 11;
      return row == 1 || draw < 5 ? 0 : draw < 9 ? 1 : 3;
    };
    forward.count = [boxes = forward.boxes](const Pair& at) {
      return boxes(at.batch, at.head, at.query / 64, at.key / 64);
    };
    return forward;
  }

  ForwardCase pruned() const {
    ForwardCase forward = padded("pruned_as_zero_d64");
    forward.pruned_as_zero = true;
    forward.integers = {70, 4};
    forward.count = [](const Pair& at) { return at.key >= at.query - 70 && at.key <= at.query + 4 ? 1 : 0; };
    return forward;
  }
};

TEST_P(EmulatedPadding, Additive) { expect_right(additive()); }

TEST_P(EmulatedPadding, AdditiveInParts) {
  ForwardCase forward = additive();
  forward.split_tiles = 1;
  expect_right(forward);
}

TEST_P(EmulatedPadding, PrunedAsZero) { expect_right(pruned()); }

TEST_P(EmulatedPadding, PrunedAsZeroInParts) {
  ForwardCase forward = pruned();
  forward.split_tiles = 1;
  expect_right(forward);
}

TEST_P(EmulatedPadding, PrunedAsZeroPacked) {
  ForwardCase forward = pruned();
  forward.packed = true;
  forward.valid = {};
  forward.sequences = {{0, 5}, {1, 1}, {63, 63}, {64, 64}, {65, 65}, {200, 200}, {5, 0}};
  expect_right(forward);
}

INSTANTIATE_TEST_SUITE_P(Families, EmulatedPadding, testing::Values("", "_sm80"),
                         [](const auto& instance) { return instance.param.empty() ? "sm90" : "sm80"; });

}  // namespace
}  // namespace harrier::test
