#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "ir/nearest_name.h"
#include "ir/parser.h"
#include "ir/spelling.h"

namespace harrier {
namespace {

constexpr const char* kExpected = "an expression";

/// A tree and its number of levels, counted on the way so that a long chain is refused before it is built.
struct Parsed {
  Expression expression;
  int depth;
};

class ExpressionParser {
 public:
  ExpressionParser(TokenCursor& cursor, ExpressionUse use)
      : cursor_(cursor), use_(use), loads_are_float_(use == ExpressionUse::kScore) {}

  Expression run() { return read_binary(1).expression; }

 private:
  /// Counts the calls that are open, and refuses the one too many.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kMaxNesting) parser_.refuse_depth(parser_.cursor_.peek());
    }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    ~Nesting() { --parser_.nesting_; }

   private:
    ExpressionParser& parser_;
  };

  [[noreturn]] void refuse_depth(const Token& at) const {
    cursor_.refuse(at,
                   fmt::format("found an expression of more than {} levels, expected fewer; put the numbers into an "
                               "@array and index it",
                               kMaxTreeDepth));
  }

  Parsed grow(const Token& at, Expression expression, int children_depth) const {
    if (children_depth + 1 > kMaxTreeDepth) refuse_depth(at);
    return {std::move(expression), children_depth + 1};
  }

  const BinaryOperator* next_operator() const {
    const Token& token = cursor_.peek();
    if (token.kind != TokenKind::kSymbol) return nullptr;
    const auto found = std::ranges::find(kBinaryOperators, token.text, &BinaryOperator::symbol);
    return found == kBinaryOperators.end() ? nullptr : &*found;
  }

  /// Operators that bind at least as tightly as `precedence`, and their operands.
  Parsed read_binary(int precedence) {
    const Nesting nesting(*this);
    Parsed left = read_unary();
    int last_comparison = 0;
    for (const BinaryOperator* found = next_operator(); found != nullptr && found->precedence >= precedence;
         found = next_operator()) {
      const Token token = cursor_.take();
      if (found->precedence == last_comparison) {
        cursor_.fail(token, "one comparison at a time", "write a < b && b < c, or use parentheses");
      }
      const bool is_comparison = found->precedence == kEqualityPrecedence || found->precedence == kRelationPrecedence;
      last_comparison = is_comparison ? found->precedence : 0;
      Parsed right = read_binary(found->precedence + 1);
      const int depth = std::max(left.depth, right.depth);
      left = grow(token, binary(found->kind, std::move(left.expression), std::move(right.expression)), depth);
    }
    return left;
  }

  Parsed read_unary() {
    const Token token = cursor_.peek();
    if (cursor_.accept("!")) return read_prefixed(token, UnaryKind::kNot);
    if (cursor_.accept("-")) {
      const Token& next = cursor_.peek();
      const bool is_number = next.kind == TokenKind::kInteger || next.kind == TokenKind::kFloat;
      return is_number ? read_literal(true) : read_prefixed(token, UnaryKind::kNegate);
    }
    return read_primary();
  }

  Parsed read_prefixed(const Token& token, UnaryKind kind) {
    const Nesting nesting(*this);
    Parsed operand = read_unary();
    return grow(token, unary(kind, std::move(operand.expression)), operand.depth);
  }

  Parsed read_literal(bool is_negative) {
    const Token token = cursor_.take();
    if (token.kind == TokenKind::kInteger) return {constant(integer_value(cursor_, token, is_negative)), 1};
    return {constant(number_value(cursor_, token, is_negative)), 1};
  }

  Parsed read_primary() {
    const Token& token = cursor_.peek();
    switch (token.kind) {
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        return read_literal(false);
      case TokenKind::kArray:
        return read_load();
      case TokenKind::kWord:
        return cursor_.next_is("(", 1) ? read_call() : read_variable();
      case TokenKind::kSymbol:
        if (cursor_.accept("(")) {
          Parsed inside = read_binary(1);
          cursor_.expect(")", "an operator or ')'");
          return inside;
        }
        if (token.text == "~") cursor_.fail(token, kExpected, "write !a for a condition, a ^ -1 for the bits");
        break;
      case TokenKind::kString:
      case TokenKind::kEnd:
        break;
    }
    cursor_.fail(token, kExpected);
  }

  Parsed read_load() {
    const Token token = cursor_.take();
    std::vector<Expression> indices;
    int depth = 0;
    if (cursor_.accept("[")) {
      const bool outside = std::exchange(loads_are_float_, false);
      do {
        Parsed index = read_binary(1);
        depth = std::max(depth, index.depth);
        indices.push_back(std::move(index.expression));
      } while (cursor_.accept(","));
      loads_are_float_ = outside;
      cursor_.expect("]", "an operator, ',' or ']'");
    }
    return grow(token, load(array_name(token), std::move(indices), loads_are_float_), depth);
  }

  Parsed read_variable() {
    const Token token = cursor_.take();
    if (token.text == "s" && use_ == ExpressionUse::kWhere) {
      cursor_.fail(token, "a variable of where(...)", "only score(...) knows the score s");
    }
    const VariableName* variable = find_name(kVariableNames, token.text);
    if (variable == nullptr) fail_on_name(token, "a variable");
    return {{Variable{variable->kind}}, 1};
  }

  Parsed read_call() {
    const Token token = cursor_.take();
    if (const UnaryFunction* function = find_name(kUnaryFunctions, token.text)) {
      std::vector<Parsed> arguments = read_arguments<1>(token);
      return grow(token, unary(function->kind, std::move(arguments[0].expression)), arguments[0].depth);
    }
    if (const BinaryFunction* function = find_name(kBinaryFunctions, token.text)) {
      return combine(token, function->kind, read_arguments<2>(token));
    }
    if (token.text == "select") {
      std::vector<Parsed> arguments = read_arguments<3>(token);
      const int depth = std::max({arguments[0].depth, arguments[1].depth, arguments[2].depth});
      return grow(token,
                  select(std::move(arguments[0].expression), std::move(arguments[1].expression),
                         std::move(arguments[2].expression)),
                  depth);
    }
    if (token.text == "clamp") {
      std::vector<Parsed> arguments = read_arguments<3>(token);
      std::vector<Parsed> low;
      low.push_back(std::move(arguments[0]));
      low.push_back(std::move(arguments[1]));
      std::vector<Parsed> high;
      high.push_back(combine(token, BinaryKind::kMax, std::move(low)));
      high.push_back(std::move(arguments[2]));
      return combine(token, BinaryKind::kMin, std::move(high));
    }
    fail_on_name(token, "a function");
  }

  Parsed combine(const Token& token, BinaryKind kind, std::vector<Parsed> operands) const {
    const int depth = std::max(operands[0].depth, operands[1].depth);
    return grow(token, binary(kind, std::move(operands[0].expression), std::move(operands[1].expression)), depth);
  }

  template <std::size_t kCount>
  std::vector<Parsed> read_arguments(const Token& function) {
    cursor_.expect("(");
    std::vector<Parsed> arguments;
    for (std::size_t i = 0; i < kCount; ++i) {
      if (i > 0) cursor_.expect(",", fmt::format("',' ({} takes {} arguments)", function.text, kCount));
      arguments.push_back(read_binary(1));
    }
    cursor_.expect(")", fmt::format("')' ({} takes {} argument{})", function.text, kCount, kCount == 1 ? "" : "s"));
    return arguments;
  }

  /// Points at an unknown name with the nearest known one, or with all of them.
  [[noreturn]] void fail_on_name(const Token& token, const std::string& expected) const {
    std::vector<std::string_view> names;
    for (const VariableName& variable : kVariableNames) {
      if (variable.kind != VariableKind::kScore || use_ == ExpressionUse::kScore) names.push_back(variable.name);
    }
    for (const UnaryFunction& function : kUnaryFunctions) names.push_back(function.name);
    for (const BinaryFunction& function : kBinaryFunctions) names.push_back(function.name);
    names.insert(names.end(), {"select", "clamp"});
    const std::string_view nearest = nearest_name(token.text, names);
    cursor_.fail(token, expected,
                 nearest.empty()
                     ? fmt::format("known are {} (arrays are written @{})", fmt::join(names, " "), token.text)
                     : fmt::format("did you mean '{}'?", nearest));
  }

  TokenCursor& cursor_;
  ExpressionUse use_;
  bool loads_are_float_;
  int nesting_ = 0;
};

}  // namespace

Expression read_expression(TokenCursor& cursor, ExpressionUse use) { return ExpressionParser(cursor, use).run(); }

Expression parse_expression(std::string_view text, ExpressionUse use) {
  TokenCursor cursor(text);
  Expression expression = read_expression(cursor, use);
  cursor.expect_kind(TokenKind::kEnd, "an operator or the end of the text");
  return expression;
}

}  // namespace harrier
