#include <fmt/format.h>

#include <string>
#include <string_view>

#include "ir/match.h"
#include "ir/spelling.h"
#include "ir/text.h"

namespace harrier {
namespace {

/// A float keeps a point or an exponent, so that it is not read back as an integer.
std::string print_float(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

class ExpressionPrinter {
 public:
  std::string take() { return std::move(text_); }

  void write(const Expression& expression) {
    match(
        expression.node, [&](const IntLiteral& literal) { text_ += fmt::format("{}", literal.value); },
        [&](const FloatLiteral& literal) { text_ += print_float(literal.value); },
        [&](const Variable& variable) { text_ += find_kind(kVariableNames, variable.kind)->name; },
        [&](const Load& load) { write_load(load); }, [&](const Unary& unary) { write_unary(unary); },
        [&](const Binary& binary) { write_binary(binary); },
        [&](const Select& select) { write_call("select", {&*select.condition, &*select.if_true, &*select.if_false}); },
        [&](const Parameter& parameter) {
          text_ += fmt::format("{}[{}]", parameter.is_float ? "float" : "int", parameter.index);
        },
        [&](const TileCount& count) { text_ += fmt::format("table[{}]", count.slot); });
  }

 private:
  void write_load(const Load& load) {
    text_ += '@';
    text_ += load.array;
    if (load.indices.empty()) return;
    const char* separator = "[";
    for (const Expression& index : load.indices) {
      text_ += separator;
      write(index);
      separator = ", ";
    }
    text_ += ']';
  }

  void write_unary(const Unary& unary) {
    if (const UnaryFunction* function = find_kind(kUnaryFunctions, unary.kind)) {
      write_call(function->name, {&*unary.operand});
      return;
    }
    // A minus before a number is part of the number when read back, so a negated literal needs parentheses.
    const auto& node = unary.operand->node;
    const bool is_literal = std::holds_alternative<IntLiteral>(node) || std::holds_alternative<FloatLiteral>(node);
    text_ += unary.kind == UnaryKind::kNegate ? '-' : '!';
    write_operand(*unary.operand, is_literal || precedence_of(*unary.operand) < kUnaryPrecedence);
  }

  void write_binary(const Binary& binary) {
    if (const BinaryFunction* function = find_kind(kBinaryFunctions, binary.kind)) {
      write_call(function->name, {&*binary.left, &*binary.right});
      return;
    }
    const BinaryOperator& spelling = *find_kind(kBinaryOperators, binary.kind);
    write_operand(*binary.left, needs_parentheses(spelling.precedence, *binary.left, false));
    text_ += fmt::format(" {} ", spelling.symbol);
    write_operand(*binary.right, needs_parentheses(spelling.precedence, *binary.right, true));
  }

  void write_call(std::string_view name, std::initializer_list<const Expression*> arguments) {
    text_ += name;
    const char* separator = "(";
    for (const Expression* argument : arguments) {
      text_ += separator;
      write(*argument);
      separator = ", ";
    }
    text_ += ')';
  }

  void write_operand(const Expression& operand, bool in_parentheses) {
    if (in_parentheses) text_ += '(';
    write(operand);
    if (in_parentheses) text_ += ')';
  }

  static int precedence_of(const Expression& expression) {
    const auto* binary = std::get_if<Binary>(&expression.node);
    const BinaryOperator* spelling = binary == nullptr ? nullptr : find_kind(kBinaryOperators, binary->kind);
    return spelling == nullptr ? kAtomPrecedence : spelling->precedence;
  }

  static bool is_comparison(int precedence) {
    return precedence == kEqualityPrecedence || precedence == kRelationPrecedence;
  }

  static bool is_bit_operation(int precedence) {
    return (precedence >= kBitOrPrecedence && precedence <= kBitAndPrecedence) || precedence == kShiftPrecedence;
  }

  /// More than C demands: comparisons never stand bare inside comparisons (the parser refuses chains of them), and a
  /// bit operation shows its grouping, because few readers know C's order there.
  static bool needs_parentheses(int outer, const Expression& child, bool is_right) {
    const int inner = precedence_of(child);
    if (inner == kAtomPrecedence) return false;
    if (inner < outer || (inner == outer && is_right)) return true;
    if (is_comparison(outer)) return is_comparison(inner);
    return is_bit_operation(outer) && inner != outer;
  }

  std::string text_;
};

}  // namespace

std::string print(const Expression& expression) {
  ExpressionPrinter printer;
  printer.write(expression);
  return printer.take();
}

}  // namespace harrier
