#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "ir/nearest_name.h"
#include "ir/parser.h"

namespace harrier {
namespace {

/// Takes one of `words`, and gives its place among them.
std::size_t read_choice(TokenCursor& cursor, const std::vector<std::string_view>& words) {
  const Token token = cursor.peek();
  const std::string expected = fmt::format("{}", fmt::join(words, ", "));
  if (token.kind != TokenKind::kWord) cursor.fail(token, expected);
  const auto found = std::ranges::find(words, token.text);
  if (found == words.end()) {
    const std::string_view nearest = nearest_name(token.text, words);
    cursor.fail(token, expected, nearest.empty() ? "" : fmt::format("did you mean '{}'?", nearest));
  }
  cursor.take();
  return static_cast<std::size_t>(found - words.begin());
}

DataType read_dtype(TokenCursor& cursor) {
  constexpr auto kTypes = std::to_array({DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16});
  std::vector<std::string_view> names;
  for (const DataType type : kTypes) names.emplace_back(name_of(type));
  return kTypes.at(read_choice(cursor, names));
}

Padding read_padding(TokenCursor& cursor) {
  if (read_choice(cursor, {"excluded", "additive"}) == 0) return PaddingExcluded{};
  Arguments arguments(cursor, "additive(x)");
  const double value = arguments.number("x");
  arguments.finish();
  return PaddingAdditive{value};
}

Softmax read_softmax(TokenCursor& cursor) {
  switch (read_choice(cursor, {"standard", "pruned_as_zero", "sink_logit"})) {
    case 0:
      return SoftmaxStandard{};
    case 1:
      return SoftmaxPrunedAsZero{};
    default:
      break;
  }
  Arguments arguments(cursor, "sink_logit(@logits)");
  SoftmaxSinkLogit sink{arguments.array("logits")};
  arguments.finish();
  return sink;
}

[[noreturn]] void refuse_dropout(const TokenCursor& cursor, const Token& at) {
  cursor.refuse(at, "found 'dropout', which is not supported; remove it: attention is computed without dropout");
}

/// Applied in this order, and written in it.
constexpr auto kSteps = std::to_array<std::string_view>({"scale", "softcap", "alibi", "bias", "score"});

void read_step(TokenCursor& cursor, std::size_t step, Score& score) {
  switch (step) {
    case 0: {
      if (cursor.next_is("(") && cursor.next_is("default", 1)) {
        cursor.take();
        cursor.take();
        cursor.expect(")");
        return;
      }
      Arguments arguments(cursor, "scale(number or default)");
      score.scale = arguments.number("scale");
      return arguments.finish();
    }
    case 1: {
      Arguments arguments(cursor, "softcap(cap)");
      score.softcap = arguments.number("cap");
      return arguments.finish();
    }
    case 2: {
      Arguments arguments(cursor, "alibi(@slopes)");
      score.alibi = arguments.array("slopes");
      return arguments.finish();
    }
    case 3: {
      Arguments arguments(cursor, "bias(@table)");
      score.bias = arguments.array("table");
      return arguments.finish();
    }
    default:
      cursor.expect("(", "'(' as in score(s + 1.0)");
      score.expression = read_expression(cursor, ExpressionUse::kScore);
      cursor.expect(")", "an operator or ')'");
  }
}

/// The place in kSteps of the step that starts here, if one does.
std::optional<std::size_t> next_step(const TokenCursor& cursor) {
  const Token& token = cursor.peek();
  if (token.kind != TokenKind::kWord) return std::nullopt;
  if (token.text == "dropout") refuse_dropout(cursor, token);
  const auto* const found = std::ranges::find(kSteps, token.text);
  if (found == kSteps.end()) return std::nullopt;
  return static_cast<std::size_t>(found - kSteps.begin());
}

Score read_score(TokenCursor& cursor) {
  Score score;
  std::optional<std::size_t> last;
  for (std::optional<std::size_t> step = next_step(cursor); step; step = next_step(cursor)) {
    const Token token = cursor.take();
    if (last && *step == *last) {
      cursor.refuse(token, fmt::format("found '{}' twice, expected it once; combine the two", token.text));
    }
    if (last && *step < *last) {
      cursor.refuse(token, fmt::format("found '{}' after '{}', expected the order in which the steps are applied: {}",
                                       token.text, kSteps.at(*last), fmt::join(kSteps, ", ")));
    }
    read_step(cursor, *step, score);
    last = step;
  }
  if (!last) {
    const Token& token = cursor.peek();
    const std::string_view nearest = nearest_name(token.text, {kSteps.begin(), kSteps.end()});
    cursor.fail(token, fmt::format("a step of the score: {}", fmt::join(kSteps, ", ")),
                nearest.empty() ? "" : fmt::format("did you mean '{}'?", nearest));
  }
  return score;
}

struct Clause {
  std::string_view name;
  void (*read)(TokenCursor&, Workload&);
};

constexpr auto kClauses = std::to_array<Clause>({
    {"heads", [](TokenCursor& c, Workload& w) { w.shape.heads = read_integer(c, "the number of query heads"); }},
    {"kv_heads",
     [](TokenCursor& c, Workload& w) { w.shape.kv_heads = read_integer(c, "the number of key and value heads"); }},
    {"head_dim", [](TokenCursor& c, Workload& w) { w.shape.head_dim = read_integer(c, "the size of a head"); }},
    {"value_dim", [](TokenCursor& c, Workload& w) { w.shape.value_dim = read_integer(c, "the size of a value head"); }},
    {"dtype", [](TokenCursor& c, Workload& w) { w.shape.dtype = read_dtype(c); }},
    {"direction",
     [](TokenCursor& c, Workload& w) {
       w.shape.direction = read_choice(c, {"forward", "backward"}) == 0 ? Direction::kForward : Direction::kBackward;
       w.shape.deterministic = w.shape.direction == Direction::kBackward && c.accept("deterministic");
     }},
    {"mask", [](TokenCursor& c, Workload& w) { w.pattern.mask = read_mask(c); }},
    {"padding", [](TokenCursor& c, Workload& w) { w.pattern.padding = read_padding(c); }},
    {"score", [](TokenCursor& c, Workload& w) { w.pattern.score = read_score(c); }},
    {"softmax", [](TokenCursor& c, Workload& w) { w.pattern.softmax = read_softmax(c); }},
    {"lengths", [](TokenCursor& c, Workload& w) { w.lengths = read_lengths(c); }},
    {"batch", [](TokenCursor& c, Workload& w) { w.batch = read_integer(c, "the number of sequences"); }},
});

const Clause& read_clause_name(TokenCursor& cursor) {
  const Token token = cursor.peek();
  if (token.kind != TokenKind::kWord) cursor.fail(token, "a clause or '}'");
  if (token.text == "dropout") refuse_dropout(cursor, token);
  const auto* const clause = std::ranges::find(kClauses, token.text, &Clause::name);
  if (clause == kClauses.end()) {
    if (std::ranges::find(kSteps, token.text) != kSteps.end()) {
      cursor.fail(token, "a clause or '}'", fmt::format("write score {}(...)", token.text));
    }
    std::vector<std::string_view> names;
    for (const Clause& known : kClauses) names.push_back(known.name);
    const std::string_view nearest = nearest_name(token.text, names);
    cursor.fail(token, "a clause or '}'",
                nearest.empty() ? fmt::format("clauses are {}", fmt::join(names, " "))
                                : fmt::format("did you mean '{}'?", nearest));
  }
  cursor.take();
  return *clause;
}

}  // namespace

Workload read_workload(TokenCursor& cursor) {
  Workload workload;
  cursor.expect("attention", "'attention NAME { ... }'");
  if (cursor.peek().kind == TokenKind::kWord) workload.name = cursor.take().text;
  cursor.expect("{", workload.name.empty() ? "a name or '{'" : "'{'");
  std::vector<std::string_view> seen;
  const auto has = [&seen](std::string_view name) { return std::ranges::find(seen, name) != seen.end(); };
  while (!cursor.accept("}")) {
    const Token token = cursor.peek();
    const Clause& clause = read_clause_name(cursor);
    if (has(clause.name)) {
      cursor.refuse(token, fmt::format("found '{}' twice, expected it once; remove one", clause.name));
    }
    clause.read(cursor, workload);
    seen.push_back(clause.name);
  }
  if (!has("kv_heads")) workload.shape.kv_heads = workload.shape.heads;
  if (!has("value_dim")) workload.shape.value_dim = workload.shape.head_dim;
  return workload;
}

Workload parse_workload(std::string_view text) {
  TokenCursor cursor(text);
  Workload workload = read_workload(cursor);
  cursor.expect_kind(TokenKind::kEnd, "the end of the text");
  return workload;
}

}  // namespace harrier
