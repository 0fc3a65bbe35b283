// Tokens of the pattern language, and errors that point at them. Internal to ir: the public face is text.h.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace harrier {

/// Longer texts are refused before they are read.
inline constexpr std::size_t kMaxTextBytes = std::size_t{1} << 20;

/// How much of a long token an error quotes.
inline constexpr std::size_t kLongestQuote = 40;

/// What some editors put before a text, and readers pass over.
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

enum class TokenKind { kWord, kInteger, kFloat, kString, kArray, kSymbol, kEnd };

/// `text` is the spelling in the source: "@table" with its @, "\"a.csv\"" with its quotes.
struct Token {
  TokenKind kind;
  std::string_view text;
  std::size_t offset;  // in bytes from the start of the source
};

/// All tokens, the last being kEnd. Throws InvalidInput, pointing at the place, for bytes that are not UTF-8, for stray
/// characters and for unfinished strings and numbers. `source` must outlive the tokens.
std::vector<Token> tokenize(std::string_view source);

/// Throws InvalidInput: "line:column: MESSAGE", the source line, and a caret under the column. Columns count
/// characters, not bytes.
[[noreturn]] void raise_at(std::string_view source, std::size_t offset, const std::string& message);

/// True for a word of the language: letters, digits and _, not starting with a digit.
bool is_name(std::string_view text);

/// True for UTF-8 without control characters.
bool is_plain_text(std::string_view text);

/// A parser's place among the tokens.
class TokenCursor {
 public:
  /// `source` must outlive the cursor.
  explicit TokenCursor(std::string_view source) : source_(source), tokens_(tokenize(source)) {}

  const Token& peek(std::size_t ahead = 0) const;
  /// Takes the next token; kEnd is never passed.
  Token take();
  bool next_is(std::string_view symbol_or_word, std::size_t ahead = 0) const;
  /// Takes the next token when it is this symbol or word.
  bool accept(std::string_view symbol_or_word);
  /// Takes this symbol or word, or fails: "found X, expected 'symbol'", or what `expected` says instead.
  Token expect(std::string_view symbol_or_word, const std::string& expected = {});
  Token expect_kind(TokenKind kind, const std::string& expected);

  /// "line:column: found X, expected `expected`; `remedy`" at this token.
  [[noreturn]] void fail(const Token& found, const std::string& expected, const std::string& remedy = {}) const;
  /// "line:column: `message`" at this token.
  [[noreturn]] void refuse(const Token& at, const std::string& message) const;

 private:
  std::string_view source_;
  std::vector<Token> tokens_;
  std::size_t next_ = 0;
};

}  // namespace harrier
