#include "codegen/cuda/table_use.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "ir/match.h"

namespace harrier {
namespace {

/// `expression` with each TileCount replaced by what `replace` makes of it.
template <typename Replace>
Expression with_counts(const Expression& expression, const Replace& replace) {
  const auto again = [&](const Expression& operand) { return with_counts(operand, replace); };
  return match(
      expression.node, [&](const TileCount& node) { return replace(node); },
      [&](const Unary& node) { return unary(node.kind, again(*node.operand)); },
      [&](const Binary& node) { return binary(node.kind, again(*node.left), again(*node.right)); },
      [&](const Select& node) { return select(again(*node.condition), again(*node.if_true), again(*node.if_false)); },
      [&](const auto&) { return expression; });  // indices of loads hold no counts
}

/// The value of `expression` where that follows from literals alone; booleans are 0 and 1.
std::optional<int64_t> value_of(const Expression& expression) {
  return match(
      expression.node, [](const IntLiteral& node) { return std::optional<int64_t>(node.value); },
      [](const Unary& node) -> std::optional<int64_t> {
        const auto operand = value_of(*node.operand);
        if (!operand || node.kind != UnaryKind::kNot) return std::nullopt;
        return *operand == 0 ? 1 : 0;
      },
      [](const Binary& node) -> std::optional<int64_t> {
        const auto left = value_of(*node.left), right = value_of(*node.right);
        const bool zero = left == 0 || right == 0;
        switch (node.kind) {
          case BinaryKind::kAnd:
            if (zero) return 0;
            return left && right ? std::optional<int64_t>(1) : std::nullopt;
          case BinaryKind::kOr:
            if ((left && *left != 0) || (right && *right != 0)) return 1;
            return left && right ? std::optional<int64_t>(0) : std::nullopt;
          case BinaryKind::kMultiply:
            if (zero) return 0;
            break;
          default:
            break;
        }
        if (!left || !right) return std::nullopt;
        switch (node.kind) {
          case BinaryKind::kMultiply:
            return *left * *right;
          case BinaryKind::kMin:
            return std::min(*left, *right);
          case BinaryKind::kMax:
            return std::max(*left, *right);
          case BinaryKind::kLess:
            return *left < *right ? 1 : 0;
          case BinaryKind::kLessEqual:
            return *left <= *right ? 1 : 0;
          case BinaryKind::kGreater:
            return *left > *right ? 1 : 0;
          case BinaryKind::kGreaterEqual:
            return *left >= *right ? 1 : 0;
          case BinaryKind::kEqual:
            return *left == *right ? 1 : 0;
          case BinaryKind::kNotEqual:
            return *left != *right ? 1 : 0;
          default:
            return std::nullopt;
        }
      },
      [](const Select& node) -> std::optional<int64_t> {
        const auto if_true = value_of(*node.if_true), if_false = value_of(*node.if_false);
        if (const auto condition = value_of(*node.condition)) return *condition != 0 ? if_true : if_false;
        return if_true == if_false ? if_true : std::nullopt;
      },
      [](const auto&) { return std::optional<int64_t>(); });
}

LoweredPattern look_tables_up(const LoweredPattern& lowered) {
  LoweredPattern result = lowered;
  const auto first_size = static_cast<int>(lowered.int_values.size());
  for (int slot = 0; slot < lowered.table_slots; ++slot) {
    result.arrays.push_back({fmt::format("{}{}", kTableArrayPrefix, slot), ArraySlot::Element::kUInt8, 4});
    result.int_values.push_back(0);
  }
  result.table_slots = 0;
  result.visible = with_counts(lowered.visible.value(), [&](const TileCount& node) {
    const Expression size = {Parameter{.index = first_size + node.slot, .is_float = false}};
    return load(fmt::format("{}{}", kTableArrayPrefix, node.slot),
                {var::b(), var::h(), var::q() / size, var::k() / size});
  });
  return result;
}

}  // namespace

bool looks_tables_up(const LoweredPattern& lowered, const CudaPlan& plan) {
  if (lowered.table_slots == 0) return false;
  return lowered.table_slots > 1 || plan.row_blocks == 0 || (lowered.counted && plan.row_blocks > 1);
}

LoweredPattern cuda_pattern(const LoweredPattern& lowered, const CudaPlan& plan) {
  return looks_tables_up(lowered, plan) ? look_tables_up(lowered) : lowered;
}

bool is_table_alone(const LoweredPattern& lowered) {
  if (!lowered.visible) return true;
  if (std::holds_alternative<TileCount>(lowered.visible->node)) return true;
  return *lowered.visible == (Expression{TileCount{0}} > constant(int64_t{0}));
}

bool needs_table(const LoweredPattern& lowered) {
  return lowered.table_slots > 0 && lowered.visible && value_of(with_table_count(*lowered.visible, 0)) == 0;
}

Expression with_table_count(const Expression& visible, int64_t count) {
  return with_counts(visible, [&](const TileCount&) { return constant(count); });
}

}  // namespace harrier
