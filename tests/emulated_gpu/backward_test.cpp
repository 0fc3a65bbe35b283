// Gradients of the kernels for sm_90a against fp64, for every kind of mask, layout and plan.
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "backward_case.h"
#include "device.h"

namespace harrier::test {
namespace {

const std::vector<Sequence> kLengths = {{0, 5}, {1, 1}, {64, 64}, {65, 65}, {127, 200}, {200, 127}, {5, 0}};

/// Numbers of a plan, and head dims.
struct Numbers {
  int head_dim;
  int value_dim;
  int tile_q;
  int tile_k;
  int consumers;
  int stages = 2;
  bool bfloat16 = true;
  const char* source = "kClosedForm";
  bool deterministic = false;
};

int padded(int dim) { return (dim + 31) / 32 * 32; }

constexpr char kIdentity[] = "using Score = ScaledScore;\n";

std::string source(const Numbers& numbers, const std::string& mask, const std::string& score = kIdentity) {
  return fmt::format(
      R"(// head_dim {head}  value_dim {value}
#include "codegen/cuda/kernels/backward_sm90.cuh"
#include "codegen/cuda/kernels/finish_queries.cuh"
#include "codegen/cuda/kernels/language.cuh"

namespace harrier {{
{mask}
{score}
struct Config {{
  static constexpr int kHeadDim = {padded_head};
  static constexpr int kValueDim = {padded_value};
  static constexpr int kTileQ = {tile_q};
  static constexpr int kTileK = {tile_k};
  static constexpr int kBoxRows = {tile_k};
  static constexpr int kConsumers = {consumers};
  static constexpr int kStages = {stages};
  static constexpr int kConsumerRegisters = 224;
  static constexpr int kProducerRegisters = 32;
  static constexpr int kCtasPerSm = 1;
  static constexpr bool kDeterministic = {deterministic};
  static constexpr bool kBFloat16 = {bfloat16};
  static constexpr KeySourceKind kKeySource = KeySourceKind::{source};
}};
}}

extern "C" __global__ void __launch_bounds__({threads}, 1) harrier_backward_columns(
    const __grid_constant__ harrier::BackwardParams params) {{
  extern __shared__ __align__(1024) unsigned char memory[];
  harrier::backward_columns<harrier::Config, harrier::Mask, harrier::Score>(params, memory);
}}
extern "C" __global__ void __launch_bounds__(harrier::kFinishThreads) harrier_backward_queries(
    const __grid_constant__ harrier::BackwardParams params) {{
  harrier::finish_queries<harrier::Config>(params);
}}
extern "C" __global__ void __launch_bounds__(1) harrier_shared_bytes(int* bytes) {{
  *bytes = harrier::ColumnLayout<harrier::Config>::kBytes;
}}
)",
      fmt::arg("head", numbers.head_dim), fmt::arg("value", numbers.value_dim), fmt::arg("mask", mask),
      fmt::arg("score", score), fmt::arg("padded_head", padded(numbers.head_dim)),
      fmt::arg("padded_value", padded(numbers.value_dim)), fmt::arg("tile_q", numbers.tile_q),
      fmt::arg("tile_k", numbers.tile_k), fmt::arg("consumers", numbers.consumers), fmt::arg("stages", numbers.stages),
      fmt::arg("bfloat16", numbers.bfloat16), fmt::arg("source", numbers.source),
      fmt::arg("deterministic", numbers.deterministic), fmt::arg("threads", 128 * (numbers.consumers + 1)));
}

constexpr Numbers kD64 = {64, 64, 128, 128, 2};
constexpr Numbers kD64OfBlocks = {64, 64, 64, 64, 1};
constexpr Numbers kD128 = {128, 128, 64, 128, 2};
constexpr Numbers kD128OfBlocks = {128, 128, 64, 64, 2};

constexpr char kCausal[] = R"(
struct Mask : NoMask {
  static constexpr MaskKind kKind = MaskKind::kIntervals;
  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {
    return {0, at.aligned(query) + 1};
  }
};
)";

int aligned(const Pair& at) { return at.query + at.sequence.keys - at.sequence.queries; }

BackwardCase causal(const Numbers& numbers) {
  BackwardCase backward;
  backward.source = source(numbers, kCausal);
  backward.pattern.sequences = kLengths;
  backward.pattern.bfloat16 = numbers.bfloat16;
  backward.pattern.count = [](const Pair& at) { return at.key <= aligned(at) ? 1 : 0; };
  return backward;
}

TEST(EmulatedBackward, CausalWithTheNumbersOfEveryPlan) {
  std::vector<Numbers> all = {kD64,
                              kD128,
                              Numbers{96, 96, 64, 128, 2, 2, false},
                              Numbers{40, 80, 64, 128, 2},
                              Numbers{192, 128, 64, 64, 2},
                              Numbers{256, 256, 64, 64, 2}};
  if (std::getenv("HARRIER_TEST_THOROUGH") != nullptr) {
    for (const Numbers& more : {kD64OfBlocks, kD128OfBlocks, Numbers{128, 96, 64, 128, 2}, Numbers{64, 256, 64, 64, 2},
                                Numbers{224, 224, 64, 64, 2}, Numbers{64, 64, 64, 128, 2}}) {
      all.push_back(more);
    }
  }
  for (const Numbers& numbers : all) {
    SCOPED_TRACE(testing::Message() << numbers.head_dim << ", " << numbers.tile_q << "x" << numbers.tile_k);
    BackwardCase backward = causal(numbers);
    if (numbers.value_dim > 64) backward.pattern.sequences = {{0, 5}, {65, 65}, {100, 150}, {5, 0}};
    expect_right(backward);
  }
}

TEST(EmulatedBackward, CausalPadded) {
  BackwardCase backward = causal(kD64);
  backward.pattern.packed = false;
  backward.pattern.sequences = {{260, 260}, {260, 260}, {260, 260}};
  backward.pattern.valid = {260, 129, 0};
  expect_right(backward);
}

// Lanes and warps that lag behind others must not lose anything.
TEST(EmulatedBackward, ThreadsInAnyOrder) {
  for (const char* seed : {"1", "2"}) {
    const Setting order("HARRIER_EMULATED_SEED", seed);
    SCOPED_TRACE(seed);
    for (const Numbers& numbers : {kD64, kD64OfBlocks, kD128OfBlocks}) {
      BackwardCase backward = causal(numbers);
      backward.pattern.sequences = {{65, 65}, {130, 200}};
      expect_right(backward);
    }
  }
}

TEST(EmulatedBackward, AllHeadsShareOneKeyHeadInParts) {
  for (const Numbers& numbers : {kD64, kD128OfBlocks}) {
    for (const int split_tiles : {1, 3}) {
      BackwardCase backward = causal(numbers);
      backward.pattern.kv_heads = 1;
      backward.pattern.split_tiles = split_tiles;
      expect_right(backward);
    }
  }
}

TEST(EmulatedBackward, SeveralIntervals) {
  BackwardCase backward = causal(kD64OfBlocks);
  backward.source = source(kD64OfBlocks, R"(
struct Mask : NoMask {
  static constexpr MaskKind kKind = MaskKind::kIntervals;
  static constexpr int kIntervals = 3;
  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {
    if constexpr (kIndex == 0) return {at.aligned(query) - at.arguments.integers[0], at.aligned(query) + 11};
    if constexpr (kIndex == 1) return {0, at.key_length};
    return {0, 5};
  }
  template <int kIndex>
  static __device__ __forceinline__ Interval queries(const Position& at) {
    if constexpr (kIndex != 1) return {-kFarAway, kFarAway};
    return {at.query_length - at.key_length, 5 + at.query_length - at.key_length};
  }
};
)");
  backward.pattern.integers = {20};
  backward.pattern.count = [](const Pair& at) {
    const int query = aligned(at);
    return (at.key >= query - 20 && at.key <= query + 10) || (query >= 0 && query < 5) || at.key < 5 ? 1 : 0;
  };
  expect_right(backward);
}

TEST(EmulatedBackward, PredicateInsideAnInterval) {
  BackwardCase backward = causal(kD64);
  backward.source = source(kD64, R"(
struct Mask : NoMask {
  static constexpr MaskKind kKind = MaskKind::kPredicate;
  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {
    return {0, at.aligned(query) + 1};
  }
  static __device__ __forceinline__ int visible(const Position& at, int query, int key, int) {
    return key <= at.aligned(query) && (query + key) % 3 == 0 ? 1 : 0;
  }
};
)");
  backward.pattern.count = [](const Pair& at) { return at.key <= aligned(at) && (at.query + at.key) % 3 == 0 ? 1 : 0; };
  expect_right(backward);
}

/// Random tiles; the same for all who ask for one place.
std::function<int(int, int, int, int)> random_tiles(int one_in, int most) {
  return [=](int batch, int head, int row, int column) {
    std::uint32_t hash = 2166136261u;
    for (const int value : {batch, head, row, column}) {
      hash = (hash ^ static_cast<std::uint32_t>(value + 1)) * 16777619u;
    }
    hash ^= hash >> 15;
    // Rows and columns that see nothing, too.
    if (row == 1 || column == 2 || hash % static_cast<std::uint32_t>(one_in) != 0) return 0;
    return 1 + static_cast<int>(hash >> 20) % most;
  };
}

constexpr char kCounted[] = "struct Mask : NoMask { static constexpr bool kCounted = true; };\n";

BackwardCase listed(Numbers numbers, int most) {
  numbers.source = "kLists";
  BackwardCase backward = causal(numbers);
  backward.source = source(numbers, most > 1 ? kCounted : "struct Mask : NoMask {};\n");
  backward.pattern.sequences = {{0, 5}, {65, 65}, {127, 400}, {300, 127}, {5, 0}};
  const auto tiles = random_tiles(2, most);
  backward.pattern.boxes = tiles;
  backward.pattern.count = [=](const Pair& at) {
    return tiles(at.batch, at.head, at.query / numbers.tile_q, at.key / numbers.tile_k);
  };
  return backward;
}

TEST(EmulatedBackward, Lists) { expect_right(listed(kD128, 1)); }

TEST(EmulatedBackward, ListsWithCounts) {
  for (const int split_tiles : {0, 2}) {
    BackwardCase backward = listed(kD64OfBlocks, 4);
    backward.pattern.split_tiles = split_tiles;
    expect_right(backward);
  }
}

TEST(EmulatedBackward, ListsWhosePairsThePredicateCounts) {
  BackwardCase backward = listed(kD128OfBlocks, 4);
  Numbers numbers = kD128OfBlocks;
  numbers.source = "kLists";
  backward.source = source(numbers, R"(
struct Mask : NoMask {
  static constexpr bool kCounted = true;
  static constexpr MaskKind kKind = MaskKind::kPredicate;
  static __device__ __forceinline__ int visible(const Position& at, int query, int key, int count) {
    return key <= at.aligned(query) ? count : 0;
  }
};
)");
  backward.pattern.evaluated = true;
  backward.pattern.count = [listed = backward.pattern.count](const Pair& at) {
    return at.key <= aligned(at) ? listed(at) : 0;
  };
  expect_right(backward);
}

TEST(EmulatedBackward, AdditivePadding) {
  BackwardCase backward = causal(kD64);
  backward.source = source(kD64, R"(
struct Mask : NoMask {
  static constexpr bool kAdditivePadding = true;
  static constexpr MaskKind kKind = MaskKind::kIntervals;
  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int) {
    return {0, at.key_length};
  }
};
)");
  backward.pattern.packed = false;
  backward.pattern.sequences = {{150, 150}, {150, 150}, {150, 150}};
  backward.pattern.valid = {150, 20, 0};
  backward.pattern.padding = -1.5;
  backward.pattern.count = [](const Pair&) { return 1; };
  expect_right(backward);
}

TEST(EmulatedBackward, PrunedAsZero) {
  BackwardCase backward = causal(kD64OfBlocks);
  backward.source = source(kD64OfBlocks, R"(
struct Mask : NoMask {
  static constexpr bool kPrunedAsZero = true;
  static constexpr MaskKind kKind = MaskKind::kIntervals;
  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {
    return {0, at.aligned(query) + 1};
  }
};
)");
  backward.pattern.packed = false;
  backward.pattern.sequences = {{150, 150}, {150, 150}, {150, 150}};
  backward.pattern.valid = {150, 20, 0};
  backward.pattern.pruned_as_zero = true;
  expect_right(backward);
}

TEST(EmulatedBackward, ScoresWithADerivative) {
  constexpr char kSoftcap[] = R"(
struct Score {
  static constexpr bool kIdentity = false;
  static __device__ __forceinline__ float score(const Position& at, float s, int q, int k) {
    const float distance = absolute(to_float(Int(at.aligned(q)) - Int(k)));
    return hyperbolic_tangent(s * at.arguments.floats[0]) * 30.0f - load_float32(at, 0, at.head) * distance;
  }
  static __device__ __forceinline__ float slope(const Position& at, float s, int, int) {
    const float t = hyperbolic_tangent(s * at.arguments.floats[0]);
    return 30.0f * at.arguments.floats[0] * (1.0f - t * t);
  }
};
)";
  for (const Numbers& numbers : {Numbers{96, 96, 64, 128, 2, 2, false}, kD128OfBlocks}) {
    BackwardCase backward = causal(numbers);
    backward.source = source(numbers, kCausal, kSoftcap);
    backward.pattern.folded = false;
    backward.pattern.floats = {0.01f};
    backward.pattern.float_arrays = {{0.01f, 0.02f, 0.05f, 0.1f}};
    backward.pattern.sink = [](int head) { return 0.5 * head; };
    backward.pattern.score = [slopes = backward.pattern.float_arrays[0]](const Pair& at, double dot) {
      return std::tanh(dot * 0.01f) * 30.0 -
             slopes[static_cast<std::size_t>(at.head)] * std::abs(1.0 * (aligned(at) - at.key));
    };
    backward.slope = [](const Pair&, double dot) {
      const double t = std::tanh(dot * 0.01f);
      return 30.0 * 0.01f * (1.0 - t * t);
    };
    expect_right(backward);
  }
}

/// The sums of dQ, with so many CTAs side by side whose threads run in the order of a seed.
std::vector<float> sums_of(const BackwardCase& backward, const char* together, const char* seed) {
  const Setting side_by_side("HARRIER_EMULATED_TOGETHER", together);
  const Setting order("HARRIER_EMULATED_SEED", seed);
  const GradientComparison found = run(backward);
  EXPECT_LT(found.d_query_error, 8e-3);
  EXPECT_LT(found.d_key_error, 8e-3);
  EXPECT_LT(found.d_value_error, 8e-3);
  EXPECT_EQ(found.mismatched, 0);
  return found.d_query_sums;
}

BackwardCase with(BackwardCase backward, const std::vector<Sequence>& sequences) {
  backward.pattern.sequences = sequences;
  return backward;
}

TEST(EmulatedBackward, SumsOfQueriesVaryWithTheOrderOfArrival) {
  const BackwardCase backward = with(causal(kD64OfBlocks), {{300, 300}, {65, 200}});
  EXPECT_NE(sums_of(backward, "4", "1"), sums_of(backward, "4", "2"));
}

TEST(EmulatedBackward, DeterministicSumsHaveTheSameBitsWhateverArrivesFirst) {
  Numbers blocks = kD64OfBlocks, whole = kD64, divided = kD128OfBlocks, from_registers = {224, 224, 64, 64, 2};
  for (Numbers* numbers : {&blocks, &whole, &divided, &from_registers}) numbers->deterministic = true;
  BackwardCase in_parts = with(causal(divided), {{130, 200}, {5, 0}});
  in_parts.pattern.kv_heads = 1;
  in_parts.pattern.split_tiles = 3;
  std::vector<BackwardCase> cases = {with(causal(blocks), {{200, 200}, {65, 130}}),
                                     with(listed(blocks, 1), {{65, 65}, {127, 300}}), in_parts};
  std::vector<const char*> seeds = {"1"};
  if (std::getenv("HARRIER_TEST_THOROUGH") != nullptr) {
    cases.push_back(with(causal(whole), {{300, 300}, {5, 0}}));
    cases.push_back(with(causal(from_registers), {{130, 130}}));
    seeds = {"1", "2", "3", "4", "5"};
  }
  for (const BackwardCase& backward : cases) {
    const std::vector<float> sums = sums_of(backward, "1", "");
    for (const char* seed : seeds) EXPECT_EQ(sums_of(backward, "4", seed), sums) << seed;
  }
}

}  // namespace
}  // namespace harrier::test
