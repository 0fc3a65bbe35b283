#include <algorithm>

#include "ir/match.h"
#include "ir/spelling.h"
#include "ir/verify.h"
#include "ir/verify_rules.h"

namespace harrier {
namespace {

constexpr std::size_t kMaxIndices = 4;

bool takes_integers_only(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kModulo:
    case BinaryKind::kBitAnd:
    case BinaryKind::kBitOr:
    case BinaryKind::kBitXor:
    case BinaryKind::kShiftLeft:
    case BinaryKind::kShiftRight:
      return true;
    default:
      return false;
  }
}

bool is_logic(BinaryKind kind) { return kind == BinaryKind::kAnd || kind == BinaryKind::kOr; }

/// Walks an expression and gives the type of each node on the way, so that types are worked out once.
class ExpressionVerifier {
 public:
  explicit ExpressionVerifier(ExpressionUse use) : use_(use) {}

  ExpressionType check(const Expression& expression, int depth) {
    if (depth > kMaxTreeDepth) {
      refuse("an expression has more than {} levels; put the numbers into an @array and index it", kMaxTreeDepth);
    }
    return match(
        expression.node,
        [](const IntLiteral& literal) {
          check_range(literal.value, std::numeric_limits<int32_t>::min(), kMaxInt32, "a number in an expression",
                      "expressions compute in 32 bits");
          return ExpressionType::kInt;
        },
        [&](const FloatLiteral& literal) {
          check_float32(literal.value, "a number in an expression");
          refuse_float_among_integers(fmt::format("the number {}", literal.value));
          return ExpressionType::kFloat;
        },
        [&](const Variable& variable) {
          if (variable.kind != VariableKind::kScore) return ExpressionType::kInt;
          refuse_float_among_integers("the score s");
          return ExpressionType::kFloat;
        },
        [&](const Load& load) { return check_load(load, depth); },
        [&](const Unary& unary) { return check_unary(unary, depth); },
        [&](const Binary& binary) { return check_binary(binary, depth); },
        [&](const Select& select) {
          refuse_float_condition(check(*select.condition, depth + 1), "select");
          const ExpressionType if_true = check(*select.if_true, depth + 1);
          const ExpressionType if_false = check(*select.if_false, depth + 1);
          return if_true == if_false ? if_true : number_type(if_true, if_false);
        },
        [](const Parameter&) -> ExpressionType { refuse_lowered("a parameter"); },
        [](const TileCount&) -> ExpressionType { refuse_lowered("a tile count"); });
  }

 private:
  static ExpressionType number_type(ExpressionType left, ExpressionType right) {
    const bool is_float = left == ExpressionType::kFloat || right == ExpressionType::kFloat;
    return is_float ? ExpressionType::kFloat : ExpressionType::kInt;
  }

  [[noreturn]] static void refuse_lowered(const char* what) {
    refuse("an expression holds {}, which only lowered patterns may; write the number itself", what);
  }

  /// Conditions and indices are exact on every machine: nothing in them is a float.
  void refuse_float_among_integers(const std::string& what) const {
    if (in_index_)
      refuse("{} stands in an index, which takes integers only; index by b, h, q, k or an int @array", what);
    if (use_ == ExpressionUse::kWhere) {
      refuse("{} stands in where(...), which takes integers only; scale both sides to integers", what);
    }
  }

  static void refuse_float_condition(ExpressionType type, std::string_view what) {
    if (type == ExpressionType::kFloat) refuse("{} takes a condition, found a float; compare it with 0.0", what);
  }

  ExpressionType check_load(const Load& load, int depth) {
    check_name(load.array, "an array's name");
    if (load.indices.size() > kMaxIndices) {
      refuse("@{} has {} indices, at most {} are allowed; combine two of its dimensions", load.array,
             load.indices.size(), kMaxIndices);
    }
    const bool in_integers = in_index_ || use_ == ExpressionUse::kWhere;
    if (load.is_float) refuse_float_among_integers(fmt::format("the float array @{}", load.array));
    if (!load.is_float && !in_integers) {
      refuse("@{} is an int array in score(...), where arrays are float; load it with is_float", load.array);
    }
    const bool outside = std::exchange(in_index_, true);
    for (const Expression& index : load.indices) check(index, depth + 1);
    in_index_ = outside;
    return load.is_float ? ExpressionType::kFloat : ExpressionType::kInt;
  }

  ExpressionType check_unary(const Unary& unary, int depth) {
    const ExpressionType operand = check(*unary.operand, depth + 1);
    if (unary.kind == UnaryKind::kNot) {
      refuse_float_condition(operand, "!");
      return ExpressionType::kBool;
    }
    if (unary.kind == UnaryKind::kNegate || unary.kind == UnaryKind::kAbs) return number_type(operand, operand);
    refuse_float_among_integers(fmt::format("{}(...)", find_kind(kUnaryFunctions, unary.kind)->name));
    return ExpressionType::kFloat;
  }

  ExpressionType check_binary(const Binary& binary, int depth) {
    const ExpressionType left = check(*binary.left, depth + 1);
    const ExpressionType right = check(*binary.right, depth + 1);
    const ExpressionType number = number_type(left, right);
    const BinaryOperator* spelling = find_kind(kBinaryOperators, binary.kind);
    if (takes_integers_only(binary.kind)) {
      if (number == ExpressionType::kFloat)
        refuse("{} takes integers, found a float; use + - * / there", spelling->symbol);
      return ExpressionType::kInt;
    }
    if (is_logic(binary.kind)) {
      refuse_float_condition(left, spelling->symbol);
      refuse_float_condition(right, spelling->symbol);
      return ExpressionType::kBool;
    }
    const bool is_comparison = spelling != nullptr && (spelling->precedence == kEqualityPrecedence ||
                                                       spelling->precedence == kRelationPrecedence);
    return is_comparison ? ExpressionType::kBool : number;
  }

  ExpressionUse use_;
  bool in_index_ = false;
};

}  // namespace

void verify_expression(const Expression& expression, ExpressionUse use) {
  ExpressionVerifier(use).check(expression, 1);
}

}  // namespace harrier
