// The parts of the recursive descent parser. Internal to ir: the public face is text.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/lexer.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace harrier {

/// How deep the parser may call itself for one mask or one expression: enough for the print of every tree of
/// kMaxTreeDepth levels, each of which may take an operator and a pair of parentheses.
inline constexpr int kMaxNesting = 2 * kMaxTreeDepth + 8;

/// Each reads one thing from the cursor on and leaves the cursor behind it.
Mask read_mask(TokenCursor& cursor);
Expression read_expression(TokenCursor& cursor, ExpressionUse use);
LengthDistribution read_lengths(TokenCursor& cursor);
Workload read_workload(TokenCursor& cursor);

/// The values of number tokens, with their sign; fail when they pass int64 or double.
int64_t integer_value(const TokenCursor& cursor, const Token& token, bool is_negative);
double number_value(const TokenCursor& cursor, const Token& token, bool is_negative);

/// Takes an integer (or a number), with or without a minus before it.
int64_t read_integer(TokenCursor& cursor, const std::string& expected);
double read_number(TokenCursor& cursor, const std::string& expected);

/// The text of a string token without its quotes; the name of an array token without its @.
std::string string_value(const Token& token);
std::string array_name(const Token& token);

/// The arguments of one call, `(64, random=3, @table)`, taken one by one by the name of the parameter: an argument of
/// that name, or else the next one without a name.
class Arguments {
 public:
  /// Reads the arguments after the call's name; without parentheses there are none. `usage` is how the call is written:
  /// "window(left, right)"; errors quote it.
  Arguments(TokenCursor& cursor, std::string_view usage);

  std::size_t count() const { return arguments_.size(); }
  int64_t integer(std::string_view parameter);
  /// An integer, or `inf` for kUnbounded.
  int64_t bound(std::string_view parameter);
  double number(std::string_view parameter);
  /// The name of an @array.
  std::string array(std::string_view parameter);
  std::string string(std::string_view parameter);
  /// True, and taken, when this word stands among the arguments.
  bool word(std::string_view spelling);
  /// True when the argument that integer(parameter) and its kin would take is of this kind.
  bool next_is(TokenKind kind, std::string_view parameter) const;
  bool has_name(std::string_view parameter) const;
  /// How many arguments were not taken yet.
  std::size_t left() const;
  /// Fails when an argument was not taken.
  void finish() const;

 private:
  struct Argument {
    std::string_view name;  // empty: by position
    Token name_token;
    Token value;
    bool is_negative;
    bool is_taken;
  };

  const Argument* find(std::string_view parameter) const;
  const Argument& take(std::string_view parameter, const std::string& expected);
  [[noreturn]] void fail_on(const Argument& argument, std::string_view parameter, const std::string& expected) const;

  TokenCursor& cursor_;
  std::string_view usage_;
  Token end_;  // the closing parenthesis, or what stands where one could open
  std::vector<Argument> arguments_;
};

}  // namespace harrier
