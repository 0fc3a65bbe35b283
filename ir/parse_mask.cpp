#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "ir/nearest_name.h"
#include "ir/parser.h"

namespace harrier {
namespace {

/// An atom of the language: its name, how it is written, and how its arguments are read.
struct Atom {
  std::string_view name;
  std::string_view usage;
  Mask (*read)(Arguments&);
};

Mask read_dilated(Arguments& arguments) {
  if (arguments.count() <= 2) {
    const int64_t width = arguments.bound("window");
    return dilated(width, width, arguments.integer("step"));
  }
  const int64_t left = arguments.bound("left");
  const int64_t right = arguments.bound("right");
  return dilated(left, right, arguments.integer("step"));
}

Mask read_global(Arguments& arguments) {
  const bool queries = arguments.word("queries");
  const bool keys = !queries && arguments.word("keys");
  const GlobalSide side = queries ? GlobalSide::kQueries : keys ? GlobalSide::kKeys : GlobalSide::kBoth;
  if (arguments.has_name("tokens") || arguments.next_is(TokenKind::kArray, "n")) {
    return global_tokens(arguments.array("tokens"), side);
  }
  return global_tokens(arguments.integer("n"), side);
}

Mask read_blocks(Arguments& arguments) {
  const bool counted = arguments.word("counted");
  const int64_t size = arguments.integer("size");
  if (arguments.left() >= 2) {
    std::string offsets = arguments.array("offsets");
    return block_lists(size, std::move(offsets), arguments.array("indices"), counted);
  }
  return blocks(size, arguments.array("table"), counted);
}

Mask read_bigbird(Arguments& arguments) {
  const bool zero = arguments.word("zero");
  const int64_t block = arguments.integer("block");
  const int64_t random = arguments.integer("random");
  if (zero) return bigbird(block, random, BigBirdZero{});
  if (arguments.has_name("seed")) return bigbird(block, random, BigBirdSeed{arguments.integer("seed")});
  return bigbird(block, random, BigBirdTable{arguments.array("table")});
}

constexpr auto kAtoms = std::to_array<Atom>({
    {"all", "all", [](Arguments&) { return all(); }},
    {"none", "none", [](Arguments&) { return none(); }},
    {"causal", "causal", [](Arguments&) { return causal(); }},
    {"window", "window(left, right)",
     [](Arguments& arguments) {
       const int64_t left = arguments.bound("left");
       return window(left, arguments.bound("right"));
     }},
    {"dilated", "dilated(window, step) or dilated(left, right, step)", read_dilated},
    {"sink", "sink(n)", [](Arguments& arguments) { return sink(arguments.integer("n")); }},
    {"prefix", "prefix(n)", [](Arguments& arguments) { return prefix(arguments.integer("n")); }},
    {"global", "global(n or @tokens, optionally queries or keys)", read_global},
    {"documents", "documents(@segment)", [](Arguments& arguments) { return documents(arguments.array("segment")); }},
    {"blocks", "blocks(size, @table or @offsets, @indices, optionally counted)", read_blocks},
    {"bigbird", "bigbird(block, random, @table or seed=n or zero)", read_bigbird},
    {"bits", "bits(@mask)", [](Arguments& arguments) { return bits(arguments.array("mask")); }},
});

class MaskParser {
 public:
  explicit MaskParser(TokenCursor& cursor) : cursor_(cursor) {}

  Mask read_or() {
    Mask left = read_and();
    while (cursor_.accept("|")) left = std::move(left) | read_and();
    if (cursor_.next_is("||")) cursor_.fail(cursor_.peek(), "'|'", "masks are joined by & and |");
    return left;
  }

 private:
  Mask read_and() {
    Mask left = read_not();
    while (cursor_.accept("&")) left = std::move(left) & read_not();
    if (cursor_.next_is("&&")) cursor_.fail(cursor_.peek(), "'&'", "masks are joined by & and |");
    return left;
  }

  Mask read_not() {
    if (++nesting_ > kMaxNesting) {
      cursor_.refuse(cursor_.peek(), fmt::format("found a mask of more than {} levels, expected fewer; remove "
                                                 "parentheses or use an @array with bits(...)",
                                                 kMaxTreeDepth));
    }
    Mask mask = cursor_.accept("~") ? ~read_not() : read_atom();
    --nesting_;
    return mask;
  }

  Mask read_atom() {
    if (cursor_.accept("(")) {
      Mask inside = read_or();
      cursor_.expect(")", "'&', '|' or ')'");
      return inside;
    }
    const Token& token = cursor_.peek();
    if (token.kind != TokenKind::kWord) {
      cursor_.fail(token, "a mask", token.text == "!" ? "masks are negated by ~" : "");
    }
    const Token name = cursor_.take();
    if (name.text == "where") return read_where();
    const auto* const atom = std::ranges::find(kAtoms, name.text, &Atom::name);
    if (atom == kAtoms.end()) fail_on_name(name);
    Arguments arguments(cursor_, atom->usage);
    Mask mask = atom->read(arguments);
    arguments.finish();
    return mask;
  }

  Mask read_where() {
    cursor_.expect("(", "'(' as in where(expression)");
    Mask mask = where(read_expression(cursor_, ExpressionUse::kWhere));
    cursor_.expect(")", "an operator or ')'");
    return mask;
  }

  [[noreturn]] void fail_on_name(const Token& name) const {
    if (name.text == "not") cursor_.fail(name, "a mask", "masks are negated by ~");
    std::vector<std::string_view> names;
    for (const Atom& atom : kAtoms) names.push_back(atom.name);
    names.emplace_back("where");
    const std::string_view nearest = nearest_name(name.text, names);
    cursor_.fail(name, "a mask",
                 nearest.empty() ? fmt::format("known are {}", fmt::join(names, " "))
                                 : fmt::format("did you mean '{}'?", nearest));
  }

  TokenCursor& cursor_;
  int nesting_ = 0;
};

}  // namespace

Mask read_mask(TokenCursor& cursor) { return MaskParser(cursor).read_or(); }

Mask parse_mask(std::string_view text) {
  TokenCursor cursor(text);
  Mask mask = read_mask(cursor);
  cursor.expect_kind(TokenKind::kEnd, "'&', '|' or the end of the text");
  return mask;
}

}  // namespace harrier
