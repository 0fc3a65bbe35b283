#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "ir/nearest_name.h"
#include "ir/parser.h"

namespace harrier {
namespace {

/// More than any call takes; a bound on the work for senseless text.
constexpr std::size_t kMaxArguments = 16;

std::string signed_text(const Token& token, bool is_negative) {
  return (is_negative ? "-" : "") + std::string(token.text);
}

bool is_number(const Token& token) { return token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat; }

}  // namespace

int64_t integer_value(const TokenCursor& cursor, const Token& token, bool is_negative) {
  const std::string text = signed_text(token, is_negative);
  int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc{}) cursor.fail(token, "an integer of at most 63 bits", "use a smaller number");
  return value;
}

double number_value(const TokenCursor& cursor, const Token& token, bool is_negative) {
  const std::string text = signed_text(token, is_negative);
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc{} || !std::isfinite(value)) {
    cursor.fail(token, "a number that a double holds", "use one between 1e-308 and 1e308");
  }
  return value;
}

int64_t read_integer(TokenCursor& cursor, const std::string& expected) {
  const bool is_negative = cursor.accept("-");
  return integer_value(cursor, cursor.expect_kind(TokenKind::kInteger, expected), is_negative);
}

double read_number(TokenCursor& cursor, const std::string& expected) {
  const bool is_negative = cursor.accept("-");
  if (!is_number(cursor.peek())) cursor.fail(cursor.peek(), expected);
  return number_value(cursor, cursor.take(), is_negative);
}

std::string string_value(const Token& token) {
  std::string value;
  const std::string_view inside = token.text.substr(1, token.text.size() - 2);
  for (std::size_t i = 0; i < inside.size(); ++i) {
    if (inside[i] == '\\') ++i;
    value += inside[i];
  }
  return value;
}

std::string array_name(const Token& token) { return std::string(token.text.substr(1)); }

Arguments::Arguments(TokenCursor& cursor, std::string_view usage)
    : cursor_(cursor), usage_(usage), end_(cursor.peek()) {
  if (!cursor.accept("(")) return;
  while (!cursor.next_is(")")) {
    if (!arguments_.empty()) cursor.expect(",", fmt::format("',' or ')' in {}", usage_));
    if (arguments_.size() == kMaxArguments) cursor.fail(cursor.peek(), fmt::format("')' after {}", usage_));
    Argument argument{.name = {}, .name_token = cursor.peek(), .value = {}, .is_negative = false, .is_taken = false};
    if (cursor.peek().kind == TokenKind::kWord && cursor.next_is("=", 1)) {
      argument.name = cursor.take().text;
      cursor.take();
    }
    argument.is_negative = cursor.accept("-");
    const bool is_value =
        is_number(cursor.peek()) ||
        (!argument.is_negative && (cursor.peek().kind == TokenKind::kWord || cursor.peek().kind == TokenKind::kArray ||
                                   cursor.peek().kind == TokenKind::kString));
    if (!is_value) {
      const bool is_minus_inf = argument.is_negative && cursor.next_is("inf");
      cursor.fail(cursor.peek(), fmt::format("an argument of {}", usage_),
                  is_minus_inf ? "write inf: both bounds are distances" : "");
    }
    argument.value = cursor.take();
    const bool is_repeated = !argument.name.empty() && has_name(argument.name);
    if (is_repeated)
      cursor.refuse(argument.name_token, fmt::format("found '{}' twice, expected it once", argument.name));
    arguments_.push_back(argument);
  }
  end_ = cursor.expect(")");
}

bool Arguments::has_name(std::string_view parameter) const {
  return std::ranges::any_of(arguments_, [&](const Argument& argument) { return argument.name == parameter; });
}

std::size_t Arguments::left() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(arguments_, [](const Argument& argument) { return !argument.is_taken; }));
}

const Arguments::Argument* Arguments::find(std::string_view parameter) const {
  const auto named = std::ranges::find(arguments_, parameter, &Argument::name);
  if (named != arguments_.end()) return named->is_taken ? nullptr : &*named;
  const auto next = std::ranges::find_if(
      arguments_, [](const Argument& argument) { return argument.name.empty() && !argument.is_taken; });
  return next == arguments_.end() ? nullptr : &*next;
}

const Arguments::Argument& Arguments::take(std::string_view parameter, const std::string& expected) {
  const Argument* found = find(parameter);
  if (found == nullptr) {
    // A name that nobody asked for is more likely misspelled than superfluous: point at it.
    for (const Argument& argument : arguments_) {
      if (!argument.is_taken && !nearest_name(argument.name, {parameter}).empty()) {
        cursor_.fail(argument.name_token, fmt::format("an argument of {}", usage_),
                     fmt::format("did you mean '{}'?", parameter));
      }
    }
    cursor_.fail(end_, fmt::format("{} as '{}' of {}", expected, parameter, usage_));
  }
  Argument& argument = arguments_[static_cast<std::size_t>(found - arguments_.data())];
  argument.is_taken = true;
  return argument;
}

void Arguments::fail_on(const Argument& argument, std::string_view parameter, const std::string& expected) const {
  cursor_.fail(argument.value, fmt::format("{} as '{}' of {}", expected, parameter, usage_));
}

int64_t Arguments::integer(std::string_view parameter) {
  const Argument& argument = take(parameter, "an integer");
  if (argument.value.kind != TokenKind::kInteger) fail_on(argument, parameter, "an integer");
  return integer_value(cursor_, argument.value, argument.is_negative);
}

int64_t Arguments::bound(std::string_view parameter) {
  const Argument& argument = take(parameter, "an integer or inf");
  if (argument.value.kind == TokenKind::kWord && argument.value.text == "inf") return kUnbounded;
  if (argument.value.kind != TokenKind::kInteger) fail_on(argument, parameter, "an integer or inf");
  return integer_value(cursor_, argument.value, argument.is_negative);
}

double Arguments::number(std::string_view parameter) {
  const Argument& argument = take(parameter, "a number");
  if (!is_number(argument.value)) fail_on(argument, parameter, "a number");
  return number_value(cursor_, argument.value, argument.is_negative);
}

std::string Arguments::array(std::string_view parameter) {
  const Argument& argument = take(parameter, "an @array");
  if (argument.value.kind != TokenKind::kArray) fail_on(argument, parameter, "an @array");
  return array_name(argument.value);
}

std::string Arguments::string(std::string_view parameter) {
  const Argument& argument = take(parameter, "a \"string\"");
  if (argument.value.kind != TokenKind::kString) fail_on(argument, parameter, "a \"string\"");
  return string_value(argument.value);
}

bool Arguments::word(std::string_view spelling) {
  for (Argument& argument : arguments_) {
    const bool is_word = argument.name.empty() && !argument.is_taken && argument.value.kind == TokenKind::kWord;
    if (is_word && argument.value.text == spelling) {
      argument.is_taken = true;
      return true;
    }
  }
  return false;
}

bool Arguments::next_is(TokenKind kind, std::string_view parameter) const {
  const Argument* argument = find(parameter);
  return argument != nullptr && argument->value.kind == kind;
}

void Arguments::finish() const {
  for (const Argument& argument : arguments_) {
    if (!argument.is_taken) cursor_.fail(argument.name_token, fmt::format("only the arguments of {}", usage_));
  }
}

}  // namespace harrier
