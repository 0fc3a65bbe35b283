// The proof that the emulated GPU is right: kernels that ran right on an H100 run right here.
#include <cmath>

#include "device.h"
#include "forward_case.h"

namespace harrier::test {
namespace {

const std::vector<Sequence> kLengths = {{0, 5}, {1, 1}, {63, 63}, {64, 64}, {65, 65}, {127, 200}, {200, 127}, {5, 0}};

int aligned(const Pair& at) { return at.query + at.sequence.keys - at.sequence.queries; }

ForwardCase unmasked(const std::string& stub) {
  ForwardCase forward;
  forward.stub = stub;
  forward.sequences = kLengths;
  forward.count = [](const Pair&) { return 1; };
  return forward;
}

ForwardCase causal(const std::string& stub) {
  ForwardCase forward = unmasked(stub);
  forward.integers = {0};
  forward.count = [](const Pair& at) { return at.key <= aligned(at) ? 1 : 0; };
  return forward;
}

ForwardCase padded(const std::string& stub) {
  ForwardCase forward = causal(stub);
  forward.packed = false;
  forward.sequences = {{400, 400}, {400, 400}, {400, 400}};
  forward.valid = {400, 129, 0};
  return forward;
}

/// Random block lists; the same for all who ask for one place.
std::function<int(int, int, int, int)> random_boxes(int one_in, int most) {
  return [=](int batch, int head, int row, int box) {
    std::uint32_t hash = 2166136261u;
    for (const int value : {batch, head, row, box}) hash = (hash ^ static_cast<std::uint32_t>(value + 1)) * 16777619u;
    hash ^= hash >> 15;
    if (row == 1 || hash % static_cast<std::uint32_t>(one_in) != 0) return 0;  // a row that sees nothing, too
    return 1 + static_cast<int>(hash >> 20) % most;
  };
}

ForwardCase listed(const std::string& stub, int tile_q, int box_rows, int most) {
  ForwardCase forward = unmasked(stub);
  const auto boxes = random_boxes(2, most);
  forward.boxes = boxes;
  forward.count = [=](const Pair& at) { return boxes(at.batch, at.head, at.query / tile_q, at.key / box_rows); };
  return forward;
}

/// Scores, sinks, segments, a predicate and lists of small boxes, all at once.
ForwardCase everything(const std::string& stub) {
  ForwardCase forward = listed(stub, 64, 16, 1);
  std::vector<int> first_query = {0}, first_key = {0};
  for (const Sequence& sequence : forward.sequences) {
    first_query.push_back(first_query.back() + sequence.queries);
    first_key.push_back(first_key.back() + sequence.keys);
  }
  for (int token = 0; token < 1000; ++token) forward.int_array.push_back(token / 37);
  forward.float_arrays = {{0.01f, 0.02f, 0.05f, 0.1f}, {-1.0f, 0.0f, 1.0f, 2.0f}};
  forward.floats = {0.11f};
  forward.folded = false;
  forward.evaluated = true;
  forward.count = [=, listed = forward.count](const Pair& at) {
    const int query_segment = (first_query[static_cast<std::size_t>(at.batch)] + at.query) / 37;
    const int key_segment = (first_key[static_cast<std::size_t>(at.batch)] + at.key) / 37;
    return listed(at) > 0 && query_segment == key_segment && (at.query - at.key) % 3 == 0 ? 1 : 0;
  };
  forward.score = [slopes = forward.float_arrays[0]](const Pair& at, double dot) {
    return std::tanh(dot * 0.11) * 30.0 -
           slopes[static_cast<std::size_t>(at.head)] * std::abs(1.0 * (aligned(at) - at.key));
  };
  forward.sink = [sinks = forward.float_arrays[1]](int head) { return sinks[static_cast<std::size_t>(head)]; };
  return forward;
}

/// The families of kernels, by the end of their stubs' names.
class EmulatedForward : public testing::TestWithParam<std::string> {
 protected:
  std::string stub(const std::string& name) const { return name + GetParam(); }
};

TEST_P(EmulatedForward, Dense) { expect_right(unmasked(stub("dense_d128"))); }
TEST_P(EmulatedForward, Causal) { expect_right(causal(stub("causal_d64"))); }
TEST_P(EmulatedForward, CausalWithAnotherValueDim) { expect_right(causal(stub("causal_d192_128"))); }
TEST_P(EmulatedForward, CausalWithWideHeads) { expect_right(causal(stub("causal_d256"))); }

TEST_P(EmulatedForward, CausalPadded) { expect_right(padded(stub("causal_d64"))); }

// Lanes and warps that lag behind others must not lose anything.
TEST_P(EmulatedForward, ThreadsInAnyOrder) {
  for (const char* seed : {"1", "2", "3", "4", "5", "6"}) {
    const Setting order("HARRIER_EMULATED_SEED", seed);
    SCOPED_TRACE(seed);
    expect_right(causal(stub("causal_d64")));
    expect_right(padded(stub("causal_d64")));
    expect_right(listed(stub("bigbird_d64"), 64, 64, 4));
  }
}

TEST_P(EmulatedForward, WindowInHalfPrecision) {
  ForwardCase forward = unmasked(stub("window_d96_fp16"));
  forward.bfloat16 = false;
  forward.integers = {40, 3};
  forward.count = [](const Pair& at) { return at.key >= aligned(at) - 40 && at.key <= aligned(at) + 3 ? 1 : 0; };
  expect_right(forward);
}

TEST_P(EmulatedForward, Longformer) {
  ForwardCase forward = unmasked(stub("longformer_d64"));
  forward.integers = {20, 10, 5};
  forward.count = [](const Pair& at) {
    const int query = aligned(at);
    return (at.key >= query - 20 && at.key <= query + 10) || (query >= 0 && query < 5) || at.key < 5 ? 1 : 0;
  };
  expect_right(forward);
}

TEST_P(EmulatedForward, CausalInParts) {
  ForwardCase forward = causal(stub("causal_d64"));
  forward.sequences = {{100, 700}, {300, 300}, {65, 10}};
  forward.split_tiles = 2;
  expect_right(forward);
}

TEST_P(EmulatedForward, ListsWithCounts) { expect_right(listed(stub("bigbird_d64"), 64, 64, 4)); }
TEST_P(EmulatedForward, Everything) { expect_right(everything(stub("everything_d80"))); }

TEST_P(EmulatedForward, EverythingInParts) {
  ForwardCase forward = everything(stub("everything_d80"));
  forward.split_tiles = 1;
  expect_right(forward);
}

TEST_P(EmulatedForward, AllHeadsShareOneKeyHead) {
  ForwardCase forward = unmasked(stub("dense_d128"));
  forward.kv_heads = 1;
  expect_right(forward);
}

TEST_P(EmulatedForward, WideHeadsInParts) {
  ForwardCase forward = causal(stub("causal_d256"));
  forward.split_tiles = 1;
  expect_right(forward);
}

INSTANTIATE_TEST_SUITE_P(Families, EmulatedForward, testing::Values("", "_sm80"),
                         [](const auto& instance) { return instance.param.empty() ? "sm90" : "sm80"; });

// The blocks of the two families differ in their queries.
TEST(EmulatedForward, Lists) { expect_right(listed("blocks_d128", 128, 128, 1)); }
TEST(EmulatedForward, ListsOfSm80) { expect_right(listed("blocks_d128_sm80", 128, 64, 1)); }

}  // namespace
}  // namespace harrier::test
