#include "random_workload.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "ir/verify.h"

namespace harrier {
namespace {

constexpr int64_t kLargest = (int64_t{1} << 31) - 1;

template <typename T, std::size_t kCount>
T pick(const std::array<T, kCount>& choices, int64_t index) {
  return choices.at(static_cast<std::size_t>(index));
}

}  // namespace

int64_t WorkloadGenerator::integer(int64_t min, int64_t max) {
  return std::uniform_int_distribution<int64_t>(min, max)(random_);
}

/// Any finite fp32-sized double: short decimals, and bit patterns that need all their digits.
double WorkloadGenerator::number() {
  if (coin()) return static_cast<double>(integer(-4000, 4000)) / 8;
  for (;;) {
    const auto bits = std::bit_cast<double>(random_());
    if (std::abs(bits) < 3e38) return bits;
  }
}

double WorkloadGenerator::positive_number() {
  const double value = std::abs(number());
  return value > 1e-30 ? value : 0.125;
}

int64_t WorkloadGenerator::bound() {
  switch (integer(0, 3)) {
    case 0:
      return kUnbounded;
    case 1:
      return integer(0, kLargest);
    default:
      return integer(0, 9);
  }
}

std::string WorkloadGenerator::fresh_array() {
  static constexpr std::array<const char*, 4> kStems = {"a", "table_", "_", "all"};
  return fmt::format("{}{}", pick(kStems, integer(0, 3)), arrays_++);
}

Mask WorkloadGenerator::block_atom() {
  ++block_atoms_;
  const int64_t size = integer(1, 128);
  switch (integer(0, 4)) {
    case 0:
      return blocks(size, fresh_array(), coin());
    case 1: {
      std::string offsets = fresh_array();
      return block_lists(size, std::move(offsets), fresh_array(), coin());
    }
    case 2:
      return bigbird(size, integer(0, 254), BigBirdTable{fresh_array()});
    case 3:
      return bigbird(size, integer(0, 5), BigBirdSeed{integer(0, (int64_t{1} << 32) - 1)});
    default:
      return bigbird(size, integer(0, 5), BigBirdZero{});
  }
}

Mask WorkloadGenerator::atom() {
  static constexpr std::array<GlobalSide, 3> kSides = {GlobalSide::kBoth, GlobalSide::kQueries, GlobalSide::kKeys};
  switch (integer(0, 11)) {
    case 0:
      return all();
    case 1:
      return none();
    case 2:
      return causal();
    case 3:
      return window(bound(), bound());
    case 4:
      return dilated(bound(), bound(), integer(1, 7));
    case 5:
      return sink(integer(0, kLargest));
    case 6:
      return global_tokens(integer(0, 64), pick(kSides, integer(0, 2)));
    case 7:
      return global_tokens(fresh_array(), pick(kSides, integer(0, 2)));
    case 8:
      return documents(fresh_array());
    case 9:
      return bits(fresh_array());
    case 10:
      return where(expression(static_cast<int>(integer(1, 4)), ExpressionUse::kWhere));
    default:
      return block_atoms_ < 4 ? block_atom() : causal();
  }
}

Mask WorkloadGenerator::mask(int depth) {
  if (depth <= 1) return atom();
  switch (integer(0, 3)) {
    case 0: {
      Mask left = mask(depth - 1);
      return std::move(left) & mask(depth - 1);
    }
    case 1: {
      Mask left = mask(depth - 1);
      return std::move(left) | mask(depth - 1);
    }
    case 2:
      return ~mask(depth - 1);
    default:
      return atom();
  }
}

Expression WorkloadGenerator::index_load(bool is_float, int depth) {
  std::vector<Expression> indices;
  for (int64_t rank = integer(0, 4); rank > 0; --rank) indices.push_back(integers(depth - 2));
  return load(fresh_array(), std::move(indices), is_float);
}

Expression WorkloadGenerator::condition(int depth, ExpressionUse use) {
  static constexpr std::array<BinaryKind, 6> kComparisons = {BinaryKind::kLess,    BinaryKind::kLessEqual,
                                                             BinaryKind::kGreater, BinaryKind::kGreaterEqual,
                                                             BinaryKind::kEqual,   BinaryKind::kNotEqual};
  if (depth > 1) {
    switch (integer(0, 3)) {
      case 0:
        return !condition(depth - 1, use);
      case 1: {
        Expression left = condition(depth - 1, use);
        return binary(coin() ? BinaryKind::kAnd : BinaryKind::kOr, std::move(left), condition(depth - 1, use));
      }
      case 2: {
        // A condition may stand among numbers, where it counts 0 or 1.
        Expression left = condition(depth - 1, use);
        return binary(pick(kComparisons, integer(0, 5)), std::move(left), condition(depth - 1, use));
      }
      default:
        break;
    }
  }
  const bool is_float = use == ExpressionUse::kScore && coin();
  Expression left = is_float ? floats(depth - 1) : integers(depth - 1);
  return binary(pick(kComparisons, integer(0, 5)), std::move(left), is_float ? floats(depth - 1) : integers(depth - 1));
}

/// An expression of integers that is legal in where(...), and in score(...) as an index.
Expression WorkloadGenerator::integers(int depth) {
  static constexpr std::array<VariableKind, 8> kVariables = {
      VariableKind::kBatch,       VariableKind::kHead,      VariableKind::kQuery,      VariableKind::kKey,
      VariableKind::kQueryLength, VariableKind::kKeyLength, VariableKind::kQueryToken, VariableKind::kKeyToken};
  static constexpr std::array<BinaryKind, 12> kKinds = {
      BinaryKind::kAdd,   BinaryKind::kSubtract, BinaryKind::kMultiply,  BinaryKind::kDivide,
      BinaryKind::kMin,   BinaryKind::kMax,      BinaryKind::kModulo,    BinaryKind::kBitAnd,
      BinaryKind::kBitOr, BinaryKind::kBitXor,   BinaryKind::kShiftLeft, BinaryKind::kShiftRight};
  if (depth <= 1) {
    if (coin()) return {Variable{pick(kVariables, integer(0, 7))}};
    return constant(coin() ? integer(-9, 9) : integer(-kLargest - 1, kLargest));
  }
  switch (integer(0, 5)) {
    case 0:
      return unary(coin() ? UnaryKind::kNegate : UnaryKind::kAbs, integers(depth - 1));
    case 1: {
      Expression chosen = condition(depth - 1, ExpressionUse::kWhere);
      Expression if_true = integers(depth - 1);
      return select(std::move(chosen), std::move(if_true), integers(depth - 1));
    }
    case 2:
      return condition(depth - 1, ExpressionUse::kWhere);
    default: {
      Expression left = integers(depth - 1);
      return binary(pick(kKinds, integer(0, 11)), std::move(left), integers(depth - 1));
    }
  }
}

Expression WorkloadGenerator::floats(int depth) {
  static constexpr std::array<UnaryKind, 6> kUnary = {UnaryKind::kNegate, UnaryKind::kAbs,  UnaryKind::kExp,
                                                      UnaryKind::kLog,    UnaryKind::kSqrt, UnaryKind::kTanh};
  static constexpr std::array<BinaryKind, 6> kKinds = {BinaryKind::kAdd,      BinaryKind::kSubtract,
                                                       BinaryKind::kMultiply, BinaryKind::kDivide,
                                                       BinaryKind::kMin,      BinaryKind::kMax};
  if (depth <= 1) return coin() ? var::s() : constant(number());
  switch (integer(0, 4)) {
    case 0:
      return unary(pick(kUnary, integer(0, 5)), floats(depth - 1));
    case 1: {
      Expression chosen = condition(depth - 1, ExpressionUse::kScore);
      Expression if_true = floats(depth - 1);
      return select(std::move(chosen), std::move(if_true), floats(depth - 1));
    }
    case 2:
      return index_load(true, depth);
    default: {
      Expression left = floats(depth - 1);
      return binary(pick(kKinds, integer(0, 5)), std::move(left), coin() ? var::q() : floats(depth - 1));
    }
  }
}

Expression WorkloadGenerator::expression(int depth, ExpressionUse use) {
  if (use == ExpressionUse::kScore) return floats(depth);
  if (depth > 1 && coin()) return equal(index_load(false, depth), integers(depth - 1));
  return coin() ? condition(depth, use) : integers(depth);
}

LengthDistribution WorkloadGenerator::lengths() {
  const int64_t min = integer(0, 1 << 20);
  const int64_t max = integer(min, kLargest);
  switch (integer(0, 4)) {
    case 0:
      return FixedLength{max};
    case 1:
      return UniformLength{.min = min, .max = max};
    case 2:
      return LognormalLength{.mean = static_cast<double>(integer(1, 1 << 20)) / 3,
                             .sigma = static_cast<double>(integer(0, 70)) / 7,
                             .min = min,
                             .max = max};
    case 3: {
      HistogramLength histogram;
      for (int64_t bins = integer(1, 5); bins > 0; --bins) {
        histogram.bins.push_back({.length = integer(0, kLargest), .weight = positive_number()});
      }
      return histogram;
    }
    default:
      return TraceLength{.path = coin() ? "lengths.csv" : "a \"quoted\" b\\c/l\xC3\xA4ngen.csv", .lengths = {}};
  }
}

Shape WorkloadGenerator::shape() {
  static constexpr std::array<DataType, 3> kTypes = {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16};
  const int64_t kv_heads = integer(1, 16);
  const bool is_backward = coin();
  return {.heads = kv_heads * integer(1, 8),
          .kv_heads = kv_heads,
          .head_dim = 8 * integer(2, 32),
          .value_dim = 8 * integer(2, 32),
          .dtype = pick(kTypes, integer(0, 2)),
          .direction = is_backward ? Direction::kBackward : Direction::kForward,
          .deterministic = is_backward && coin()};
}

Pattern WorkloadGenerator::pattern(int depth) {
  Pattern pattern{.mask = mask(depth), .padding = {}, .score = {}, .softmax = {}};
  if (coin()) pattern.padding = PaddingAdditive{number()};
  if (coin()) pattern.score.scale = number();
  if (coin()) pattern.score.softcap = positive_number();
  if (coin()) pattern.score.alibi = fresh_array();
  if (coin()) pattern.score.bias = fresh_array();
  if (coin()) pattern.score.expression = expression(depth + 1, ExpressionUse::kScore);
  const int64_t softmax = integer(0, 2);
  if (softmax == 1) pattern.softmax = SoftmaxPrunedAsZero{};
  if (softmax == 2) pattern.softmax = SoftmaxSinkLogit{fresh_array()};
  return pattern;
}

Workload WorkloadGenerator::workload(int depth) {
  static constexpr std::array<const char*, 4> kNames = {"", "w", "mask", "bigbird_base_2"};
  const std::string name = pick(kNames, integer(0, 3));
  const Shape drawn_shape = shape();
  return {.name = name,
          .shape = drawn_shape,
          .pattern = pattern(depth),
          .lengths = lengths(),
          .batch = coin() ? 1 : integer(1, kLargest)};
}

}  // namespace harrier
