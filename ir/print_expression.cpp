#include <fmt/format.h>

#include <string>
#include <string_view>

#include "ir/match.h"
#include "ir/text.h"

namespace harrier {
namespace {

/// How tightly an operator binds, as in C; parse_expression.cpp reads by the same numbers.
struct Spelling {
  std::string_view symbol;
  int precedence;
};

constexpr int kUnaryPrecedence = 11;
constexpr int kAtomPrecedence = 12;
constexpr int kCallPrecedence = 0;  // min and max are spelled as calls

Spelling spelling_of(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kOr:
      return {"||", 1};
    case BinaryKind::kAnd:
      return {"&&", 2};
    case BinaryKind::kBitOr:
      return {"|", 3};
    case BinaryKind::kBitXor:
      return {"^", 4};
    case BinaryKind::kBitAnd:
      return {"&", 5};
    case BinaryKind::kEqual:
      return {"==", 6};
    case BinaryKind::kNotEqual:
      return {"!=", 6};
    case BinaryKind::kLess:
      return {"<", 7};
    case BinaryKind::kLessEqual:
      return {"<=", 7};
    case BinaryKind::kGreater:
      return {">", 7};
    case BinaryKind::kGreaterEqual:
      return {">=", 7};
    case BinaryKind::kShiftLeft:
      return {"<<", 8};
    case BinaryKind::kShiftRight:
      return {">>", 8};
    case BinaryKind::kAdd:
      return {"+", 9};
    case BinaryKind::kSubtract:
      return {"-", 9};
    case BinaryKind::kMultiply:
      return {"*", 10};
    case BinaryKind::kDivide:
      return {"/", 10};
    case BinaryKind::kModulo:
      return {"%", 10};
    case BinaryKind::kMin:
      return {"min", kCallPrecedence};
    case BinaryKind::kMax:
      break;
  }
  return {"max", kCallPrecedence};
}

std::string_view name_of(VariableKind kind) {
  switch (kind) {
    case VariableKind::kBatch:
      return "b";
    case VariableKind::kHead:
      return "h";
    case VariableKind::kQuery:
      return "q";
    case VariableKind::kKey:
      return "k";
    case VariableKind::kScore:
      return "s";
    case VariableKind::kQueryLength:
      return "q_len";
    case VariableKind::kKeyLength:
      return "kv_len";
    case VariableKind::kQueryToken:
      return "q_token";
    case VariableKind::kKeyToken:
      break;
  }
  return "k_token";
}

std::string_view spelling_of(UnaryKind kind) {
  switch (kind) {
    case UnaryKind::kNegate:
      return "-";
    case UnaryKind::kNot:
      return "!";
    case UnaryKind::kAbs:
      return "abs";
    case UnaryKind::kExp:
      return "exp";
    case UnaryKind::kLog:
      return "log";
    case UnaryKind::kSqrt:
      return "sqrt";
    case UnaryKind::kTanh:
      break;
  }
  return "tanh";
}

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
        [&](const Variable& variable) { text_ += name_of(variable.kind); }, [&](const Load& load) { write_load(load); },
        [&](const Unary& unary) { write_unary(unary); }, [&](const Binary& binary) { write_binary(binary); },
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
    const std::string_view spelling = spelling_of(unary.kind);
    if (unary.kind != UnaryKind::kNegate && unary.kind != UnaryKind::kNot) {
      write_call(spelling, {&*unary.operand});
      return;
    }
    // A minus before a number is part of the number when read back, so a negated literal needs parentheses.
    const auto& node = unary.operand->node;
    const bool is_literal = std::holds_alternative<IntLiteral>(node) || std::holds_alternative<FloatLiteral>(node);
    text_ += spelling;
    write_operand(*unary.operand, is_literal || precedence_of(*unary.operand) < kUnaryPrecedence);
  }

  void write_binary(const Binary& binary) {
    const Spelling spelling = spelling_of(binary.kind);
    if (spelling.precedence == kCallPrecedence) {
      write_call(spelling.symbol, {&*binary.left, &*binary.right});
      return;
    }
    write_operand(*binary.left, needs_parentheses(binary.kind, *binary.left, false));
    text_ += fmt::format(" {} ", spelling.symbol);
    write_operand(*binary.right, needs_parentheses(binary.kind, *binary.right, true));
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
    if (const auto* binary = std::get_if<Binary>(&expression.node)) {
      const int precedence = spelling_of(binary->kind).precedence;
      return precedence == kCallPrecedence ? kAtomPrecedence : precedence;
    }
    return kAtomPrecedence;
  }

  /// More than C demands: comparisons never stand bare inside comparisons (the parser refuses that), and a bit
  /// operation shows its grouping, because few readers know C's order there.
  static bool needs_parentheses(BinaryKind parent, const Expression& child, bool is_right) {
    const int outer = spelling_of(parent).precedence;
    const int inner = precedence_of(child);
    if (inner == kAtomPrecedence) return false;
    if (inner < outer || (inner == outer && is_right)) return true;
    const bool is_comparison = outer == 6 || outer == 7;
    const bool is_bit_operation = (outer >= 3 && outer <= 5) || outer == 8;
    if (is_comparison) return inner == 6 || inner == 7;
    return is_bit_operation && inner != outer;
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
