#include "ir/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "ir/error.h"

namespace harrier {
namespace {

/// How much of a long source line an error shows on each side of the caret, in characters.
constexpr std::size_t kShownBefore = 70;
constexpr std::size_t kShownAfter = 30;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_word(char c) { return is_letter(c) || is_digit(c); }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

/// Bytes of the UTF-8 character at `offset`, or 0 where there is none (overlong forms and surrogates are none).
std::size_t utf8_length(std::string_view text, std::size_t offset) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[offset + i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || offset + length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(text[offset + i])) return 0;
  }
  const unsigned char second = byte(1);
  const bool is_overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool is_beyond = (first == 0xED && second >= 0xA0) || (first == 0xF4 && second >= 0x90);
  return is_overlong || is_beyond ? 0 : length;
}

/// The text as it can be shown on one line: a tab stays, other control characters and stray bytes become '?'.
std::string printable(std::string_view text) {
  std::string shown;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text, i);
    if (length == 0 || (is_control(text[i]) && text[i] != '\t')) {
      shown += '?';
    } else {
      shown += text.substr(i, length);
    }
    i += std::max<std::size_t>(length, 1);
  }
  return shown;
}

/// `count` characters back from (or on from) `offset`, not leaving [begin, end).
std::size_t step_back(std::string_view source, std::size_t begin, std::size_t offset, std::size_t count) {
  while (count > 0 && offset > begin) {
    --offset;
    if (!is_continuation(source[offset])) --count;
  }
  return offset;
}

std::size_t step_on(std::string_view source, std::size_t end, std::size_t offset, std::size_t count) {
  while (offset < end && (count > 0 || is_continuation(source[offset]))) {
    if (!is_continuation(source[offset])) --count;
    ++offset;
  }
  return offset;
}

/// Blanks as wide as the text, tabs kept, so that a caret after them stands below the text's end.
std::string blanks_below(std::string_view text) {
  std::string blanks;
  for (const char c : text) {
    if (!is_continuation(c)) blanks += c == '\t' ? '\t' : ' ';
  }
  return blanks;
}

constexpr auto kLongSymbols = std::to_array<std::string_view>({"&&", "||", "==", "!=", "<=", ">=", "<<", ">>"});
constexpr std::string_view kShortSymbols = "&|~!<>=+-*/%^()[]{},:";

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    if (source_.starts_with(kByteOrderMark)) offset_ = kByteOrderMark.size();
    std::vector<Token> tokens;
    for (skip_blanks(); offset_ < source_.size(); skip_blanks()) tokens.push_back(read_token());
    tokens.push_back({TokenKind::kEnd, {}, source_.size()});
    return tokens;
  }

 private:
  char at(std::size_t offset) const { return offset < source_.size() ? source_[offset] : '\0'; }

  void skip_blanks() {
    while (offset_ < source_.size()) {
      if (source_[offset_] == '#') {
        offset_ = std::min(source_.find('\n', offset_), source_.size());
      } else if (is_blank(source_[offset_])) {
        ++offset_;
      } else {
        return;
      }
    }
  }

  Token read_token() {
    const char first = source_[offset_];
    if (is_letter(first)) return take(TokenKind::kWord, word_end(offset_));
    if (is_digit(first)) return read_number();
    if (first == '"') return read_string();
    if (first == '@') {
      if (!is_letter(at(offset_ + 1))) raise_at(source_, offset_, "found '@' alone, expected an array's name after it");
      return take(TokenKind::kArray, word_end(offset_ + 1));
    }
    for (const std::string_view symbol : kLongSymbols) {
      if (source_.substr(offset_).starts_with(symbol)) return take(TokenKind::kSymbol, offset_ + symbol.size());
    }
    if (kShortSymbols.find(first) != std::string_view::npos) return take(TokenKind::kSymbol, offset_ + 1);
    raise_stray();
  }

  Token read_number() {
    std::size_t end = digits_end(offset_);
    TokenKind kind = TokenKind::kInteger;
    if (at(end) == '.') {
      if (!is_digit(at(end + 1))) raise_at(source_, end, "found a number that ends in '.', expected a digit after it");
      kind = TokenKind::kFloat;
      end = digits_end(end + 1);
    }
    if (at(end) == 'e' || at(end) == 'E') {
      const std::size_t digits = at(end + 1) == '+' || at(end + 1) == '-' ? end + 2 : end + 1;
      if (!is_digit(at(digits)))
        raise_at(source_, end, "found a number without its exponent, expected digits after 'e'");
      kind = TokenKind::kFloat;
      end = digits_end(digits);
    }
    if (is_word(at(end)) || at(end) == '.') {
      raise_at(source_, end, fmt::format("found '{}' in a number, expected a digit or a blank", at(end)));
    }
    return take(kind, end);
  }

  Token read_string() {
    std::size_t end = offset_ + 1;
    while (at(end) != '"') {
      if (at(end) == '\\') {
        ++end;
        if (at(end) != '"' && at(end) != '\\') {
          raise_at(source_, end - 1, "found '\\' in a string, expected '\\\"' or '\\\\' (write / between folders)");
        }
      } else if (end >= source_.size() || is_control(source_[end])) {
        raise_at(source_, offset_, "found a string without its end, expected '\"' on the same line");
      }
      ++end;
    }
    return take(TokenKind::kString, end + 1);
  }

  [[noreturn]] void raise_stray() const {
    const char first = source_[offset_];
    if (first == '.') {
      raise_at(source_, offset_, "found '.', expected a number or a string; write 0.5, and \"file.csv\" in quotes");
    }
    if (first == ';') raise_at(source_, offset_, "found ';', expected a clause; clauses need no separator");
    if (is_control(first)) {
      raise_at(source_, offset_,
               fmt::format("found byte 0x{:02X}, expected text; remove control characters",
                           static_cast<unsigned>(static_cast<unsigned char>(first))));
    }
    const std::string_view character = source_.substr(offset_, utf8_length(source_, offset_));
    raise_at(source_, offset_,
             fmt::format("found '{}', expected a word, a number, a \"string\", an @array or an operator; only strings "
                         "and comments may hold other characters",
                         character));
  }

  std::size_t word_end(std::size_t end) const {
    while (is_word(at(end))) ++end;
    return end;
  }

  std::size_t digits_end(std::size_t end) const {
    while (is_digit(at(end))) ++end;
    return end;
  }

  Token take(TokenKind kind, std::size_t end) {
    const Token token{kind, source_.substr(offset_, end - offset_), offset_};
    offset_ = end;
    return token;
  }

  std::string_view source_;
  std::size_t offset_ = 0;
};

std::string quote(const Token& token) {
  if (token.kind == TokenKind::kEnd) return "the end of the text";
  const bool is_long = token.text.size() > kLongestQuote;
  const std::string text = printable(token.text.substr(0, kLongestQuote)) + (is_long ? "..." : "");
  return token.kind == TokenKind::kString ? text : "'" + text + "'";
}

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  if (source.size() > kMaxTextBytes) {
    throw InvalidInput(fmt::format("the text has {} bytes, at most {} are read; move numbers into @arrays",
                                   source.size(), kMaxTextBytes));
  }
  for (std::size_t i = 0; i < source.size();) {
    const std::size_t length = utf8_length(source, i);
    if (length == 0) {
      raise_at(source, i,
               fmt::format("found byte 0x{:02X}, expected UTF-8; save the text as UTF-8",
                           static_cast<unsigned>(static_cast<unsigned char>(source[i]))));
    }
    i += length;
  }
  return Lexer(source).run();
}

bool is_name(std::string_view text) {
  return !text.empty() && is_letter(text[0]) && std::ranges::all_of(text, is_word);
}

bool is_plain_text(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text, i);
    if (length == 0 || is_control(text[i])) return false;
    i += length;
  }
  return true;
}

void raise_at(std::string_view source, std::size_t offset, const std::string& message) {
  const std::size_t newline = source.substr(0, offset).rfind('\n');
  const std::size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
  std::size_t line_end = std::min(source.find('\n', offset), source.size());
  if (line_end > line_begin && line_end > offset && source[line_end - 1] == '\r') --line_end;

  const auto line = 1 + std::ranges::count(source.substr(0, line_begin), '\n');
  const auto column = 1 + std::ranges::count_if(source.substr(line_begin, offset - line_begin),
                                                [](char c) { return !is_continuation(c); });
  const std::size_t shown_begin = step_back(source, line_begin, offset, kShownBefore);
  const std::size_t shown_end = step_on(source, line_end, offset, kShownAfter);
  const std::string before = printable(source.substr(shown_begin, offset - shown_begin));
  const std::string after = printable(source.substr(offset, shown_end - offset));
  const std::string cut_before = shown_begin > line_begin ? "..." : "";
  const std::string cut_after = shown_end < line_end ? "..." : "";
  throw InvalidInput(fmt::format("{}:{}: {}\n{}{}{}{}\n{}^", line, column, message, cut_before, before, after,
                                 cut_after, blanks_below(cut_before + before)));
}

const Token& TokenCursor::peek(std::size_t ahead) const { return tokens_[std::min(next_ + ahead, tokens_.size() - 1)]; }

Token TokenCursor::take() {
  const Token token = peek();
  if (token.kind != TokenKind::kEnd) ++next_;
  return token;
}

bool TokenCursor::next_is(std::string_view symbol_or_word, std::size_t ahead) const {
  const Token& token = peek(ahead);
  return (token.kind == TokenKind::kSymbol || token.kind == TokenKind::kWord) && token.text == symbol_or_word;
}

bool TokenCursor::accept(std::string_view symbol_or_word) {
  if (!next_is(symbol_or_word)) return false;
  take();
  return true;
}

Token TokenCursor::expect(std::string_view symbol_or_word, const std::string& expected) {
  if (!next_is(symbol_or_word)) fail(peek(), expected.empty() ? fmt::format("'{}'", symbol_or_word) : expected);
  return take();
}

Token TokenCursor::expect_kind(TokenKind kind, const std::string& expected) {
  if (peek().kind != kind) fail(peek(), expected);
  return take();
}

void TokenCursor::fail(const Token& found, const std::string& expected, const std::string& remedy) const {
  refuse(found, fmt::format("found {}, expected {}{}{}", quote(found), expected, remedy.empty() ? "" : "; ", remedy));
}

void TokenCursor::refuse(const Token& at, const std::string& message) const { raise_at(source_, at.offset, message); }

}  // namespace harrier
