#include "ir/expression.h"

#include <algorithm>
#include <utility>

#include "ir/match.h"

namespace harrier {
namespace {

/// The type in which two numbers meet: a bool counts as an int, an int beside a float becomes a float.
ExpressionType arithmetic_type(ExpressionType left, ExpressionType right) {
  if (left == ExpressionType::kFloat || right == ExpressionType::kFloat) return ExpressionType::kFloat;
  return ExpressionType::kInt;
}

ExpressionType number_type(bool is_float) { return is_float ? ExpressionType::kFloat : ExpressionType::kInt; }

ExpressionType type_of_unary(const Unary& unary) {
  switch (unary.kind) {
    case UnaryKind::kNot:
      return ExpressionType::kBool;
    case UnaryKind::kNegate:
    case UnaryKind::kAbs:
      return number_type(type_of(*unary.operand) == ExpressionType::kFloat);
    case UnaryKind::kExp:
    case UnaryKind::kLog:
    case UnaryKind::kSqrt:
    case UnaryKind::kTanh:
      break;
  }
  return ExpressionType::kFloat;
}

ExpressionType type_of_binary(const Binary& binary) {
  switch (binary.kind) {
    case BinaryKind::kLess:
    case BinaryKind::kLessEqual:
    case BinaryKind::kGreater:
    case BinaryKind::kGreaterEqual:
    case BinaryKind::kEqual:
    case BinaryKind::kNotEqual:
    case BinaryKind::kAnd:
    case BinaryKind::kOr:
      return ExpressionType::kBool;
    case BinaryKind::kBitAnd:
    case BinaryKind::kBitOr:
    case BinaryKind::kBitXor:
    case BinaryKind::kShiftLeft:
    case BinaryKind::kShiftRight:
      return ExpressionType::kInt;
    case BinaryKind::kAdd:
    case BinaryKind::kSubtract:
    case BinaryKind::kMultiply:
    case BinaryKind::kDivide:
    case BinaryKind::kModulo:
    case BinaryKind::kMin:
    case BinaryKind::kMax:
      break;
  }
  return arithmetic_type(type_of(*binary.left), type_of(*binary.right));
}

}  // namespace

ExpressionType type_of(const Expression& expression) {
  return match(
      expression.node, [](const IntLiteral&) { return ExpressionType::kInt; },
      [](const FloatLiteral&) { return ExpressionType::kFloat; },
      [](const Variable& variable) { return number_type(variable.kind == VariableKind::kScore); },
      [](const Load& load) { return number_type(load.is_float); },
      [](const Unary& unary) { return type_of_unary(unary); },
      [](const Binary& binary) { return type_of_binary(binary); },
      [](const Select& select) {
        const ExpressionType if_true = type_of(*select.if_true);
        const ExpressionType if_false = type_of(*select.if_false);
        return if_true == if_false ? if_true : arithmetic_type(if_true, if_false);
      },
      [](const Parameter& parameter) { return number_type(parameter.is_float); },
      [](const TileCount&) { return ExpressionType::kInt; });
}

Expression constant(int64_t value) { return {IntLiteral{value}}; }
Expression constant(double value) { return {FloatLiteral{value}}; }

Expression load(std::string array, std::vector<Expression> indices, bool is_float) {
  return {Load{.array = std::move(array), .indices = std::move(indices), .is_float = is_float}};
}

Expression unary(UnaryKind kind, Expression operand) { return {Unary{.kind = kind, .operand = std::move(operand)}}; }

Expression binary(BinaryKind kind, Expression left, Expression right) {
  return {Binary{.kind = kind, .left = std::move(left), .right = std::move(right)}};
}

Expression select(Expression condition, Expression if_true, Expression if_false) {
  return {Select{.condition = std::move(condition), .if_true = std::move(if_true), .if_false = std::move(if_false)}};
}

Expression operator+(Expression left, Expression right) {
  return binary(BinaryKind::kAdd, std::move(left), std::move(right));
}
Expression operator-(Expression left, Expression right) {
  return binary(BinaryKind::kSubtract, std::move(left), std::move(right));
}
Expression operator*(Expression left, Expression right) {
  return binary(BinaryKind::kMultiply, std::move(left), std::move(right));
}
Expression operator/(Expression left, Expression right) {
  return binary(BinaryKind::kDivide, std::move(left), std::move(right));
}
Expression operator%(Expression left, Expression right) {
  return binary(BinaryKind::kModulo, std::move(left), std::move(right));
}
Expression operator<(Expression left, Expression right) {
  return binary(BinaryKind::kLess, std::move(left), std::move(right));
}
Expression operator<=(Expression left, Expression right) {
  return binary(BinaryKind::kLessEqual, std::move(left), std::move(right));
}
Expression operator>(Expression left, Expression right) {
  return binary(BinaryKind::kGreater, std::move(left), std::move(right));
}
Expression operator>=(Expression left, Expression right) {
  return binary(BinaryKind::kGreaterEqual, std::move(left), std::move(right));
}
Expression operator&&(Expression left, Expression right) {
  return binary(BinaryKind::kAnd, std::move(left), std::move(right));
}
Expression operator||(Expression left, Expression right) {
  return binary(BinaryKind::kOr, std::move(left), std::move(right));
}
Expression operator!(Expression operand) { return unary(UnaryKind::kNot, std::move(operand)); }
Expression equal(Expression left, Expression right) {
  return binary(BinaryKind::kEqual, std::move(left), std::move(right));
}
Expression not_equal(Expression left, Expression right) {
  return binary(BinaryKind::kNotEqual, std::move(left), std::move(right));
}

}  // namespace harrier
