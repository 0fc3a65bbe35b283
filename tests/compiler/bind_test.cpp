// What binding prepares means what the caller's arrays mean, and bad arrays are refused in one helpful line.
#include "compiler/bind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compiler/passes/lower_pattern.h"
#include "ir/error.h"
#include "ir/text.h"
#include "support/oracle.h"
#include "support/random_draws.h"
#include "support/random_pattern.h"

namespace harrier {
namespace {

using namespace harrier::var;
using testing::AllOf;
using testing::HasSubstr;

constexpr Shape kShape{.heads = 2, .kv_heads = 1, .head_dim = 16, .value_dim = 16};

template <typename T>
ArrayView view(const std::vector<T>& values, ElementType type, const std::vector<int64_t>& shape) {
  return {.data = values.data(), .type = type, .shape = shape};
}

ArrayView ints(const std::vector<int32_t>& values, const std::vector<int64_t>& shape) {
  return view(values, ElementType::kInt32, shape);
}

ArrayView floats(const std::vector<float>& values, const std::vector<int64_t>& shape) {
  return view(values, ElementType::kFloat32, shape);
}

BoundPattern bind_pattern(const Pattern& pattern, const Geometry& geometry, const Bindings& bindings) {
  return harrier::bind(pattern, kShape, lower_pattern(pattern, kShape), geometry, bindings);
}

BoundPattern bind_mask(const std::string& text, const Geometry& geometry, const Bindings& bindings) {
  return bind_pattern({.mask = parse_mask(text)}, geometry, bindings);
}

/// The message of the refusal; a failure when nothing is refused.
std::string refusal(const Pattern& pattern, const Geometry& geometry, const Bindings& bindings) {
  try {
    bind_pattern(pattern, geometry, bindings);
  } catch (const InvalidInput& error) {
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

std::string refusal(const std::string& text, const Geometry& geometry, const Bindings& bindings) {
  return refusal({.mask = parse_mask(text)}, geometry, bindings);
}

int64_t count_in(const BlockLists& lists, int64_t b, int64_t h, int64_t q, int64_t k) {
  const int64_t row = ((b % lists.batches) * lists.heads + h % lists.heads) * lists.row_blocks + q / lists.size;
  for (int64_t i = lists.offsets[static_cast<size_t>(row)]; i < lists.offsets[static_cast<size_t>(row) + 1]; ++i) {
    if (lists.blocks[static_cast<size_t>(i)] == k / lists.size) return lists.counts[static_cast<size_t>(i)];
  }
  return 0;
}

int64_t byte_at(const BoundArray& array, const std::vector<int64_t>& position) {
  int64_t offset = 0;
  for (size_t i = 0; i < position.size(); ++i) offset += position[i] * array.strides[i];
  return static_cast<const uint8_t*>(array.data)[offset];
}

void expect_sorted_once(const BlockLists& lists) {
  for (size_t row = 0; row + 1 < lists.offsets.size(); ++row) {
    for (int64_t i = lists.offsets[row] + 1; i < lists.offsets[row + 1]; ++i) {
      ASSERT_LT(lists.blocks[static_cast<size_t>(i - 1)], lists.blocks[static_cast<size_t>(i)]);
    }
  }
}

/// The multiplicity of one array atom as its bound form says it.
int64_t bound_multiplicity(const Mask& mask, const BoundPattern& bound, const Geometry& geometry,
                           const oracle::Position& at) {
  const Sequence& sequence = geometry.sequences[static_cast<size_t>(at.b)];
  const int64_t aligned = at.q + sequence.key_length - sequence.query_length;
  if (const auto* global = std::get_if<Global>(&mask.node)) {
    const auto is_member = [&](int64_t position) {
      return position >= 0 && byte_at(bound.arrays[0], {sequence.key_token + position}) != 0;
    };
    return (global->side != GlobalSide::kKeys && is_member(aligned)) ||
           (global->side != GlobalSide::kQueries && is_member(at.k));
  }
  if (std::holds_alternative<Documents>(mask.node)) {
    const auto* segments = static_cast<const int32_t*>(bound.arrays[0].data) + sequence.key_token;
    return aligned >= 0 && segments[aligned] == segments[at.k];
  }
  if (std::holds_alternative<Bits>(mask.node)) {
    return (byte_at(bound.arrays[0], {at.b, at.h, at.q, at.k >> 3}) >> (at.k & 7)) & 1;
  }
  return count_in(bound.tables.at(0), at.b, at.h, at.q, at.k);
}

TEST(Bind, EveryArrayAtomMeansWhatItsArraysMean) {
  int checked = 0;
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    std::mt19937_64 random(seed);
    const Pattern pattern{.mask = random_mask(random, {.max_depth = 0, .expressions = false})};
    const Geometry geometry = random_geometry(random, 3, 30, true);
    const RandomArrays arrays = random_arrays(random, pattern, kShape, geometry);
    const bool is_zero_bigbird = std::holds_alternative<BigBird>(pattern.mask.node);
    if (arrays.bindings.empty() && !is_zero_bigbird) continue;
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + print(pattern.mask));
    const BoundPattern bound = bind_pattern(pattern, geometry, arrays.bindings);
    for (const BlockLists& lists : bound.tables) expect_sorted_once(lists);
    for (int64_t b = 0; b < static_cast<int64_t>(geometry.sequences.size()); ++b) {
      for (int64_t h = 0; h < kShape.heads; ++h) {
        const Sequence& sequence = geometry.sequences[static_cast<size_t>(b)];
        const auto counts = oracle::multiplicities(pattern.mask, b, h, geometry, arrays.bindings, kShape.heads);
        for (int64_t q = 0; q < sequence.query_length; ++q) {
          for (int64_t k = 0; k < sequence.key_length; ++k) {
            const oracle::Position at{b, h, q, k};
            ASSERT_EQ(bound_multiplicity(pattern.mask, bound, geometry, at),
                      counts[static_cast<size_t>(q * sequence.key_length + k)])
                << "b " << b << " h " << h << " q " << q << " k " << k;
            ++checked;
          }
        }
      }
    }
  }
  EXPECT_GT(checked, 100000);
}

TEST(Bind, WholePatternsBindWithTheirSlotsInOrder) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    std::mt19937_64 random(seed);
    const Pattern pattern{.mask = random_mask(random, {})};
    const Geometry geometry = random_geometry(random, 4, 40, true);
    const RandomArrays arrays = random_arrays(random, pattern, kShape, geometry);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + print(pattern.mask));
    const LoweredPattern lowered = lower_pattern(pattern, kShape);
    BoundPattern bound;
    try {
      bound = harrier::bind(pattern, kShape, lowered, geometry, arrays.bindings);
    } catch (const InvalidInput& error) {
      ADD_FAILURE() << error.what();
      continue;
    }
    EXPECT_EQ(bound.arrays.size(), lowered.arrays.size());
    EXPECT_EQ(bound.int_parameters.size(), lowered.int_values.size());
    EXPECT_EQ(static_cast<int>(bound.tables.size()), lowered.table_slots);
  }
}

TEST(Bind, PointsAtTheCallersMemoryWhereTheFormIsRight) {
  const Geometry geometry = packed_geometry({3, 2});
  const std::vector<int32_t> segment{0, 0, 1, 0, 0};
  EXPECT_EQ(bind_mask("documents(@s)", geometry, {{"s", ints(segment, {5})}}).arrays[0].data, segment.data());
  const std::vector<int32_t> numbers{1, 2, 3};
  EXPECT_EQ(bind_mask("where(@a[q] < k)", geometry, {{"a", ints(numbers, {3})}}).arrays[0].data, numbers.data());
}

TEST(Bind, ConvertsOtherTypes) {
  const Geometry geometry = packed_geometry({2});
  const std::vector<int64_t> wide{-7, 5};
  const BoundPattern ints_bound =
      bind_mask("where(@a[q] < k)", geometry, {{"a", view(wide, ElementType::kInt64, {2})}});
  EXPECT_EQ(static_cast<const int32_t*>(ints_bound.arrays[0].data)[0], -7);
  EXPECT_EQ(ints_bound.int_extremes.at("a"), (std::pair<int32_t, int32_t>{-7, 5}));

  Pattern pattern;
  pattern.score.alibi = "slopes";
  const std::vector<uint16_t> halves{0x3800, 0xC100};  // 0.5 and -2.5
  const std::vector<uint16_t> brains{0x3F00, 0xC020};  // the same
  const std::vector<double> doubles{0.5, -2.5};
  for (const ArrayView& slopes : {view(halves, ElementType::kFloat16, {2}), view(brains, ElementType::kBFloat16, {2}),
                                  view(doubles, ElementType::kFloat64, {2})}) {
    const BoundPattern bound = bind_pattern(pattern, geometry, {{"slopes", slopes}});
    const auto* values = static_cast<const float*>(bound.arrays[0].data);
    EXPECT_EQ(values[0], 0.5F) << name_of(slopes.type);
    EXPECT_EQ(values[1], -2.5F) << name_of(slopes.type);
  }
}

TEST(Bind, SequencesOfOtherLengthsHaveBigBirdListsOfTheirOwn) {
  const BoundPattern alike = bind_mask("bigbird(2, 1, zero)", packed_geometry({12, 12, 11}), {});
  EXPECT_EQ(alike.tables[0].batches, 1);
  const Geometry geometry = packed_geometry({40, 3, 36});
  const BoundPattern bound = bind_mask("bigbird(2, 2, seed=3)", geometry, {});
  EXPECT_EQ(bound.tables[0].batches, 3);
  EXPECT_EQ(bound.tables[0].heads, kShape.heads);
  for (int64_t b = 0; b < 3; ++b) {
    for (int64_t h = 0; h < kShape.heads; ++h) {
      const int64_t length = geometry.sequences[static_cast<size_t>(b)].key_length;
      const auto counts = oracle::multiplicities(bigbird(2, 2, BigBirdSeed{3}), b, h, geometry, {}, kShape.heads);
      for (int64_t i = 0; i < length * length; ++i) {
        ASSERT_EQ(count_in(bound.tables[0], b, h, i / length, i % length), counts[static_cast<size_t>(i)]);
      }
    }
  }
}

TEST(Bind, RefusesNamesThatDoNotFit) {
  const Geometry geometry = packed_geometry({4});
  const std::vector<int32_t> segment(4);
  EXPECT_THAT(refusal("documents(@segment)", geometry, {}), AllOf(HasSubstr("@segment"), HasSubstr("not bound")));
  EXPECT_THAT(refusal("documents(@segment)", geometry, {{"segmnet", ints(segment, {4})}}),
              AllOf(HasSubstr("@segmnet"), HasSubstr("did you mean @segment?")));
  EXPECT_THAT(refusal("causal", geometry, {{"x", ints(segment, {4})}}), HasSubstr("@x"));
}

TEST(Bind, RefusesShapesThatDoNotFit) {
  const Geometry geometry = packed_geometry({4, 6});
  const std::vector<int32_t> zeros(64);
  const std::vector<uint8_t> bytes(64);
  EXPECT_THAT(refusal("documents(@s)", geometry, {{"s", ints(zeros, {9})}}),
              AllOf(HasSubstr("[9]"), HasSubstr("[10]")));
  EXPECT_THAT(refusal("documents(@s)", geometry, {{"s", ints(zeros, {2, 4})}}), HasSubstr("[2, 4]"));
  EXPECT_THAT(refusal("global(@t)", geometry, {{"t", ints(zeros, {3, 4})}}), HasSubstr("[3, 4]"));
  EXPECT_THAT(refusal("blocks(2, @t)", geometry, {{"t", ints(zeros, {2, 3, 2})}}), HasSubstr("[2, 3, 2]"));
  EXPECT_THAT(refusal("blocks(2, @t)", geometry, {{"t", ints(zeros, {3, 3, 3})}}), HasSubstr("heads 2 or 1"));
  EXPECT_THAT(refusal("blocks(2, @o, @i)", geometry, {{"o", ints(zeros, {1, 3})}, {"i", ints(zeros, {4})}}),
              HasSubstr("[1, 3]"));
  EXPECT_THAT(refusal("bigbird(1, 2, @t)", geometry, {{"t", ints(zeros, {2, 4, 3})}}), HasSubstr("random 2"));
  EXPECT_THAT(refusal("bits(@m)", geometry, {{"m", view(bytes, ElementType::kBool, {6, 5})}}), HasSubstr("[6, 5]"));
  EXPECT_THAT(refusal("bits(@m)", geometry, {{"m", ints(zeros, {6, 6})}}), HasSubstr("int32"));
  EXPECT_THAT(refusal("where(@a[q, k] > 0)", geometry, {{"a", ints(zeros, {36})}}), HasSubstr("2 dimensions"));
}

TEST(Bind, RefusesElementsOutOfRangeAndSaysWhere) {
  const Geometry geometry = packed_geometry({4, 6});
  EXPECT_THAT(refusal("global(@t)", geometry, {{"t", ints({0, -1, 3, 6}, {2, 2})}}),
              AllOf(HasSubstr("@t[1, 1] is 6"), HasSubstr("5")));
  EXPECT_THAT(refusal("global(@t)", geometry, {{"t", ints({0, 4, 3, -1}, {2, 2})}}),
              AllOf(HasSubstr("@t[0, 1] is 4"), HasSubstr("4 keys")));
  EXPECT_THAT(refusal("global(@t)", geometry, {{"t", ints({0, -2}, {2})}}), HasSubstr("@t[1] is -2"));
  std::vector<int32_t> table(9, 1);
  table[5] = -1;
  EXPECT_THAT(refusal("blocks(2, @t)", geometry, {{"t", ints(table, {3, 3})}}), HasSubstr("@t[1, 2] is -1"));
  table[5] = 256;
  EXPECT_THAT(refusal("blocks(2, @t, counted)", geometry, {{"t", ints(table, {3, 3})}}), HasSubstr("255"));
  EXPECT_NO_THROW(bind_mask("blocks(2, @t)", geometry, {{"t", ints(table, {3, 3})}}));
  const std::vector<int32_t> offsets{0, 2, 1, 3};
  EXPECT_THAT(refusal("blocks(2, @o, @i)", geometry, {{"o", ints(offsets, {4})}, {"i", ints({0, 1, 2}, {3})}}),
              AllOf(HasSubstr("@o[1] is 2"), HasSubstr("rise")));
  EXPECT_THAT(refusal("blocks(2, @o, @i)", geometry, {{"o", ints({0, 1, 2, 4}, {4})}, {"i", ints({0, 1, 2}, {3})}}),
              HasSubstr("at most 3"));
  EXPECT_THAT(refusal("blocks(2, @o, @i)", geometry, {{"o", ints({0, 1, 2, 3}, {4})}, {"i", ints({0, 1, 3}, {3})}}),
              AllOf(HasSubstr("@i[2] is 3"), HasSubstr("0 to 2")));
  EXPECT_THAT(refusal("bigbird(1, 1, @t)", geometry, {{"t", ints({0, 4, 4, 5}, {4, 1})}}),
              AllOf(HasSubstr("@t[0, 1, 0] is 4"), HasSubstr("a sequence has 4 blocks")));
  const std::vector<int64_t> huge{0, int64_t{1} << 40};
  EXPECT_THAT(refusal("where(@a[q % 2] < k)", geometry, {{"a", view(huge, ElementType::kInt64, {2})}}),
              HasSubstr("@a[1] is 1099511627776"));
}

TEST(Bind, RefusesFloatsThatAreNoNumbers) {
  const Geometry geometry = packed_geometry({2});
  Pattern pattern;
  pattern.score.bias = "bias";
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THAT(refusal(pattern, geometry, {{"bias", floats({0, 1, nan, 2}, {2, 2})}}), HasSubstr("@bias[1, 0] is nan"));
  EXPECT_THAT(refusal(pattern, geometry, {{"bias", floats({0, infinity, 0, 2}, {2, 2})}}), HasSubstr("@bias[0, 1]"));
  EXPECT_NO_THROW(bind_pattern(pattern, geometry, {{"bias", floats({0, -infinity, 0, 2}, {2, 2})}}));
  EXPECT_THAT(refusal(pattern, geometry, {{"bias", ints({0, 0, 0, 0}, {2, 2})}}), HasSubstr("int32"));
  Pattern slopes;
  slopes.score.alibi = "m";
  EXPECT_THAT(refusal(slopes, geometry, {{"m", floats({0, -infinity}, {2})}}), HasSubstr("@m[1]"));
  const std::vector<double> large{1e300, 0};
  EXPECT_THAT(refusal(slopes, geometry, {{"m", view(large, ElementType::kFloat64, {2})}}), HasSubstr("@m[0]"));
}

TEST(Bind, RefusesIndicesThatMayLeaveTheirArray) {
  const Geometry geometry = packed_geometry({4, 6});
  const std::vector<int32_t> numbers(8);
  const std::string message = refusal("where(@a[q + 3] > 0)", geometry, {{"a", ints(numbers, {8})}});
  EXPECT_THAT(message, AllOf(HasSubstr("3 to 8"), HasSubstr("sequence 1"), HasSubstr("has 8"), HasSubstr("min")));
  EXPECT_NO_THROW(bind_mask("where(@a[min(q + 3, 7)] > 0)", geometry, {{"a", ints(numbers, {8})}}));
  EXPECT_THAT(refusal("where(@a[q - 1] > 0)", geometry, {{"a", ints(numbers, {8})}}),
              HasSubstr("-1 to 2 in sequence 0"));
  // An array's own elements bound the index that they are.
  EXPECT_THAT(
      refusal("where(@a[@b[q]] > 0)", geometry, {{"a", ints(numbers, {8})}, {"b", ints({0, 1, 2, 3, 8, 0}, {6})}}),
      HasSubstr("0 to 8"));
  EXPECT_NO_THROW(
      bind_mask("where(@a[@b[q]] > 0)", geometry, {{"a", ints(numbers, {8})}, {"b", ints({0, 1, 2, 3, 7, 0}, {6})}}));
}

TEST(Bind, RefusesBigBirdOverQueriesAndKeysOfOtherLengths) {
  Geometry geometry = packed_geometry({8});
  geometry.sequences[0].key_length = geometry.sequences[0].key_valid = geometry.key_tokens = 10;
  EXPECT_THAT(refusal("bigbird(2, 1, zero)", geometry, {}), AllOf(HasSubstr("8"), HasSubstr("10")));
}

TEST(Bind, LengthsPast32BitsAreRefusedBeforeAnyAllocation) {
  const Geometry geometry = packed_geometry({int64_t{1} << 31});
  EXPECT_THAT(refusal("causal", geometry, {}), HasSubstr("2147483647"));
  const std::vector<int32_t> one(1);
  // 2^62 elements in each of two dimensions overflow; 2^40 rows are one shape too many.
  EXPECT_THROW(bind_mask("bits(@m)", packed_geometry({4}), {{"m", ints(one, {int64_t{1} << 40, int64_t{1} << 40})}}),
               InvalidInput);
  EXPECT_THROW(bind_mask("documents(@s)", packed_geometry({4}), {{"s", ints(one, {int64_t{1} << 40})}}), InvalidInput);
  EXPECT_THROW(bind_mask("documents(@s)", packed_geometry({4}), {{"s", ints(one, {-4})}}), InvalidInput);
}

TEST(Bind, RefusesArraysWithoutMemory) {
  EXPECT_THAT(refusal("documents(@s)", packed_geometry({4}),
                      {{"s", {.data = nullptr, .type = ElementType::kInt32, .shape = {4}}}}),
              HasSubstr("no data"));
}

TEST(Bind, RefusesNumbersPast32Bits) {
  LoweredPattern lowered = lower_pattern({}, kShape);
  lowered.int_values = {int64_t{1} << 33};
  EXPECT_THROW(harrier::bind({}, kShape, lowered, packed_geometry({4}), {}), InvalidInput);
}

}  // namespace
}  // namespace harrier
