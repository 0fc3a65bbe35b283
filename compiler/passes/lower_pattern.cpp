#include "compiler/passes/lower_pattern.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "ir/error.h"
#include "ir/match.h"

namespace harrier {
namespace {

using namespace harrier::var;

/// q' = q + (kv_len - q_len)
Expression aligned_query() { return q() + (kv_len() - q_len()); }

Expression truth(bool value) { return equal(constant(int64_t{0}), constant(int64_t{value ? 0 : 1})); }

bool is_bool(const Expression& expression) { return type_of(expression) == ExpressionType::kBool; }

Expression as_bool(Expression expression) {
  if (is_bool(expression)) return expression;
  return not_equal(std::move(expression), constant(int64_t{0}));
}

/// `expression` with s replaced by `score`.
Expression with_score(const Expression& expression, const Expression& score) {
  return match(
      expression.node,
      [&](const Variable& variable) { return variable.kind == VariableKind::kScore ? score : expression; },
      [&](const Unary& node) { return unary(node.kind, with_score(*node.operand, score)); },
      [&](const Binary& node) {
        return binary(node.kind, with_score(*node.left, score), with_score(*node.right, score));
      },
      [&](const Select& node) {
        return select(with_score(*node.condition, score), with_score(*node.if_true, score),
                      with_score(*node.if_false, score));
      },
      [&](const auto&) { return expression; });  // indices of loads are integers: no score in them
}

/// Collects parameters and slots while expressions are built.
class Lowering {
 public:
  explicit Lowering(LoweredPattern& lowered) : lowered_(lowered) {}

  Expression visible(const Mask& mask);
  Expression score(const Score& score, const Shape& shape);
  void add_slot(const std::string& name, ArraySlot::Element element, int rank) {
    const auto same = [&](const ArraySlot& slot) { return slot.name == name; };
    if (std::ranges::none_of(lowered_.arrays, same)) lowered_.arrays.push_back({name, element, rank});
  }

 private:
  Expression int_parameter(int64_t value) {
    // Positions are below 2^31, so a limit that does not fit decides comparisons as the nearest one that does.
    constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
    lowered_.int_values.push_back(std::clamp(value, -kLimit, kLimit));
    return {Parameter{.index = static_cast<int>(lowered_.int_values.size()) - 1, .is_float = false}};
  }
  Expression float_parameter(double value) {
    lowered_.float_values.push_back(value);
    return {Parameter{.index = static_cast<int>(lowered_.float_values.size()) - 1, .is_float = true}};
  }

  Expression band(int64_t left, int64_t right);
  Expression global(const Global& atom);
  Expression documents(const Documents& atom);
  Expression bit(const Bits& atom);
  Expression table(bool counted);

  /// What the uncounted operands of & or | come to, and what the counted ones do; at least one is there.
  struct Operands {
    std::optional<Expression> shown;
    std::optional<Expression> count;
  };
  Operands lower_operands(const std::vector<Mask>& operands, BinaryKind joins_shown, BinaryKind joins_counts);
  Expression conjunction(const std::vector<Mask>& operands);
  Expression disjunction(const std::vector<Mask>& operands);
  void add_loads(const Expression& expression);

  LoweredPattern& lowered_;
};

/// The entry of a per-key-token array for the query's own position; meaningless where q' < 0, but never out of range.
Expression load_at_query(const std::string& array) {
  const Expression position = binary(BinaryKind::kMax, aligned_query(), constant(int64_t{0}));
  return load(array, {k_token() - k() + position});
}

Expression query_is_inside() { return aligned_query() >= constant(int64_t{0}); }

Expression Lowering::band(int64_t left, int64_t right) {
  const Expression distance = k() - aligned_query();
  const bool has_left = left != kUnbounded;
  const bool has_right = right != kUnbounded;
  if (!has_left && !has_right) return truth(true);
  if (!has_left) return distance <= int_parameter(right);
  Expression in_left = aligned_query() - k() <= int_parameter(left);
  if (!has_right) return in_left;
  return std::move(in_left) && distance <= int_parameter(right);
}

Expression Lowering::global(const Global& atom) {
  Expression query_is_global = truth(false);
  Expression key_is_global = truth(false);
  if (atom.tokens.empty()) {
    const Expression count = int_parameter(atom.count);
    query_is_global = query_is_inside() && aligned_query() < count;
    key_is_global = k() < count;
  } else {
    const std::string member = atom.tokens + ".member";
    add_slot(member, ArraySlot::Element::kUInt8, 1);
    query_is_global = query_is_inside() && as_bool(load_at_query(member));
    key_is_global = as_bool(load(member, {k_token()}));
  }
  switch (atom.side) {
    case GlobalSide::kQueries:
      return query_is_global;
    case GlobalSide::kKeys:
      return key_is_global;
    case GlobalSide::kBoth:
      break;
  }
  return query_is_global || key_is_global;
}

Expression Lowering::documents(const Documents& atom) {
  add_slot(atom.segment, ArraySlot::Element::kInt32, 1);
  return query_is_inside() && equal(load_at_query(atom.segment), load(atom.segment, {k_token()}));
}

Expression Lowering::bit(const Bits& atom) {
  add_slot(atom.array, ArraySlot::Element::kUInt8, 4);
  const Expression byte = load(atom.array, {b(), h(), q(), binary(BinaryKind::kShiftRight, k(), constant(int64_t{3}))});
  const Expression shift = binary(BinaryKind::kBitAnd, k(), constant(int64_t{7}));
  return as_bool(binary(BinaryKind::kBitAnd, binary(BinaryKind::kShiftRight, byte, shift), constant(int64_t{1})));
}

Expression Lowering::table(bool counted) {
  const Expression count = {TileCount{lowered_.table_slots++}};
  return counted ? count : count > constant(int64_t{0});
}

Lowering::Operands Lowering::lower_operands(const std::vector<Mask>& operands, BinaryKind joins_shown,
                                            BinaryKind joins_counts) {
  Operands lowered;
  for (const Mask& operand : operands) {
    Expression next = visible(operand);
    const bool is_shown = is_bool(next);
    std::optional<Expression>& joined = is_shown ? lowered.shown : lowered.count;
    joined =
        joined ? binary(is_shown ? joins_shown : joins_counts, *std::move(joined), std::move(next)) : std::move(next);
  }
  return lowered;
}

/// Counts multiply: uncounted operands pass them or hide the key.
Expression Lowering::conjunction(const std::vector<Mask>& operands) {
  const auto [shown, count] = lower_operands(operands, BinaryKind::kAnd, BinaryKind::kMultiply);
  if (!count) return shown.value_or(truth(true));
  return shown ? select(*shown, *count, constant(int64_t{0})) : *count;
}

/// The larger count: uncounted operands that show the key are a 1 among them.
Expression Lowering::disjunction(const std::vector<Mask>& operands) {
  const auto [shown, count] = lower_operands(operands, BinaryKind::kOr, BinaryKind::kMax);
  if (!count) return shown.value_or(truth(false));
  if (!shown) return *count;
  return binary(BinaryKind::kMax, *count, select(*shown, constant(int64_t{1}), constant(int64_t{0})));
}

Expression Lowering::visible(const Mask& mask) {
  return match(
      mask.node, [](const All&) { return truth(true); }, [](const None&) { return truth(false); },
      [&](const Causal&) { return band(kUnbounded, 0); },
      [&](const Window& atom) { return band(atom.left, atom.right); },
      [&](const Dilated& atom) {
        const Expression remainder = (aligned_query() - k()) % int_parameter(atom.step);
        return band(atom.left, atom.right) && equal(remainder, constant(int64_t{0}));
      },
      [&](const Sink& atom) { return k() < int_parameter(atom.count); },
      [&](const Global& atom) { return global(atom); }, [&](const Documents& atom) { return documents(atom); },
      [&](const Blocks& atom) { return table(atom.counted); }, [&](const BigBird&) { return table(true); },
      [&](const Bits& atom) { return bit(atom); },
      [&](const Where& atom) {
        add_loads(atom.condition);
        return as_bool(atom.condition);
      },
      [&](const And& node) { return conjunction(node.operands); },
      [&](const Or& node) { return disjunction(node.operands); },
      [&](const Not& node) {
        Expression operand = visible(*node.operand);
        return is_bool(operand) ? !std::move(operand) : equal(std::move(operand), constant(int64_t{0}));
      });
}

Expression Lowering::score(const Score& score, const Shape& shape) {
  const double default_scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
  Expression result = s() * float_parameter(score.scale.value_or(default_scale));
  if (score.softcap) {
    // A product by the reciprocal, computed once, instead of a division for each pair.
    const Expression share = std::move(result) * float_parameter(1.0 / *score.softcap);
    result = float_parameter(*score.softcap) * unary(UnaryKind::kTanh, share);
  }
  if (!score.alibi.empty()) {
    add_slot(score.alibi, ArraySlot::Element::kFloat32, 1);
    const Expression distance = unary(UnaryKind::kAbs, aligned_query() - k());
    result = std::move(result) - load(score.alibi, {h()}, true) * distance;
  }
  if (!score.bias.empty()) {
    add_slot(score.bias, ArraySlot::Element::kFloat32, 4);
    result = std::move(result) + load(score.bias, {b(), h(), q(), k()}, true);
  }
  if (score.expression) {
    add_loads(*score.expression);
    result = with_score(*score.expression, result);
  }
  return result;
}

void Lowering::add_loads(const Expression& expression) {
  match(
      expression.node,
      [&](const Load& node) {
        add_slot(node.array, node.is_float ? ArraySlot::Element::kFloat32 : ArraySlot::Element::kInt32,
                 static_cast<int>(node.indices.size()));
        for (const Expression& index : node.indices) add_loads(index);
      },
      [&](const Unary& node) { add_loads(*node.operand); },
      [&](const Binary& node) {
        add_loads(*node.left);
        add_loads(*node.right);
      },
      [&](const Select& node) {
        add_loads(*node.condition);
        add_loads(*node.if_true);
        add_loads(*node.if_false);
      },
      [](const auto&) {});
}

}  // namespace

LoweredPattern lower_pattern(const Pattern& pattern, const Shape& shape) {
  LoweredPattern lowered;
  Lowering lowering(lowered);
  if (!std::holds_alternative<All>(pattern.mask.node)) lowered.visible = lowering.visible(pattern.mask);
  if (lowered.table_slots > kMaxTableSlots) {
    throw InvalidInput(fmt::format(
        "the mask has {} block tables, the limit is {}: merge tables of the same block size, or write one as bits(...)",
        lowered.table_slots, kMaxTableSlots));
  }
  lowered.counted = is_counted(pattern.mask);
  lowered.additive_padding = std::holds_alternative<PaddingAdditive>(pattern.padding);
  lowered.score = lowering.score(pattern.score, shape);
  lowered.softmax = match(
      pattern.softmax, [](const SoftmaxStandard&) { return SoftmaxKind::kStandard; },
      [](const SoftmaxPrunedAsZero&) { return SoftmaxKind::kPrunedAsZero; },
      [&](const SoftmaxSinkLogit& sink) {
        lowered.sink_logits = sink.logits;
        lowering.add_slot(sink.logits, ArraySlot::Element::kFloat32, 1);
        return SoftmaxKind::kSinkLogit;
      });
  return lowered;
}

}  // namespace harrier
