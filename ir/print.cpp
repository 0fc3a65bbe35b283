#include <fmt/format.h>

#include <iterator>
#include <string>
#include <vector>

#include "ir/match.h"
#include "ir/text.h"

namespace harrier {
namespace {

/// A bound of a window: a number or `inf`.
std::string print_bound(int64_t bound) { return bound == kUnbounded ? "inf" : fmt::format("{}", bound); }

std::string print_global(const Global& global) {
  const std::string tokens = global.tokens.empty() ? fmt::format("{}", global.count) : "@" + global.tokens;
  switch (global.side) {
    case GlobalSide::kQueries:
      return fmt::format("global({}, queries)", tokens);
    case GlobalSide::kKeys:
      return fmt::format("global({}, keys)", tokens);
    case GlobalSide::kBoth:
      break;
  }
  return fmt::format("global({})", tokens);
}

std::string print_blocks(const Blocks& blocks) {
  const std::string lists =
      blocks.table.empty() ? fmt::format("@{}, @{}", blocks.offsets, blocks.indices) : "@" + blocks.table;
  return fmt::format("blocks({}, {}{})", blocks.size, lists, blocks.counted ? ", counted" : "");
}

std::string print_bigbird(const BigBird& bigbird) {
  const std::string source = match(
      bigbird.source, [](const BigBirdTable& table) { return "@" + table.array; },
      [](const BigBirdSeed& seed) { return fmt::format("seed={}", seed.seed); },
      [](const BigBirdZero&) { return std::string("zero"); });
  return fmt::format("bigbird(block={}, random={}, {})", bigbird.block, bigbird.random, source);
}

enum class MaskLevel { kOr, kAnd, kNot };

std::string print_operand(const Mask& mask, MaskLevel level) {
  const bool is_or = std::holds_alternative<Or>(mask.node);
  const bool is_and = std::holds_alternative<And>(mask.node);
  const bool in_parentheses = is_or || (is_and && level != MaskLevel::kOr);
  return in_parentheses ? "(" + print(mask) + ")" : print(mask);
}

std::string print_operands(const std::vector<Mask>& operands, MaskLevel level, const char* separator) {
  std::string text;
  for (const Mask& operand : operands) {
    if (!text.empty()) text += separator;
    text += print_operand(operand, level);
  }
  return text;
}

std::string print_padding(const Padding& padding) {
  return match(
      padding, [](const PaddingExcluded&) { return std::string("excluded"); },
      [](const PaddingAdditive& additive) { return fmt::format("additive({})", additive.value); });
}

/// The steps in the order in which they are applied. A scale that is left out is a default like any other.
std::string print_score(const Score& score) {
  std::string text = score.scale ? fmt::format("scale({})", *score.scale) : "scale(default)";
  const auto out = std::back_inserter(text);
  if (score.softcap) fmt::format_to(out, " softcap({})", *score.softcap);
  if (!score.alibi.empty()) fmt::format_to(out, " alibi(@{})", score.alibi);
  if (!score.bias.empty()) fmt::format_to(out, " bias(@{})", score.bias);
  if (score.expression) fmt::format_to(out, " score({})", print(*score.expression));
  return text;
}

std::string print_softmax(const Softmax& softmax) {
  return match(
      softmax, [](const SoftmaxStandard&) { return std::string("standard"); },
      [](const SoftmaxPrunedAsZero&) { return std::string("pruned_as_zero"); },
      [](const SoftmaxSinkLogit& sink) { return fmt::format("sink_logit(@{})", sink.logits); });
}

std::string print_histogram(const HistogramLength& histogram) {
  std::string text;
  for (const HistogramBin& bin : histogram.bins) {
    fmt::format_to(std::back_inserter(text), "{}{}: {}", text.empty() ? "" : ", ", bin.length, bin.weight);
  }
  return fmt::format("histogram({})", text);
}

std::string quoted_path(const std::string& path) {
  std::string text = "\"";
  for (const char letter : path) {
    if (letter == '"' || letter == '\\') text += '\\';
    text += letter;
  }
  return text + "\"";
}

/// The clauses of shape and pattern, each with its name and its value.
struct PrintedClause {
  const char* name;
  std::string value;
};

std::vector<PrintedClause> clauses_of(const Shape& shape) {
  return {{"heads", fmt::format("{}", shape.heads)},
          {"kv_heads", fmt::format("{}", shape.kv_heads)},
          {"head_dim", fmt::format("{}", shape.head_dim)},
          {"value_dim", fmt::format("{}", shape.value_dim)},
          {"dtype", name_of(shape.dtype)},
          {"direction", shape.direction == Direction::kForward ? "forward"
                        : shape.deterministic                  ? "backward deterministic"
                                                               : "backward"}};
}

std::vector<PrintedClause> clauses_of(const Pattern& pattern) {
  return {{"mask", print(pattern.mask)},
          {"padding", print_padding(pattern.padding)},
          {"score", print_score(pattern.score)},
          {"softmax", print_softmax(pattern.softmax)}};
}

std::string join(const std::vector<PrintedClause>& clauses, const char* separator) {
  std::string text;
  for (const PrintedClause& clause : clauses) {
    if (!text.empty()) text += separator;
    fmt::format_to(std::back_inserter(text), "{} {}", clause.name, clause.value);
  }
  return text;
}

}  // namespace

std::string print(const Mask& mask) {
  return match(
      mask.node, [](const All&) { return std::string("all"); }, [](const None&) { return std::string("none"); },
      [](const Causal&) { return std::string("causal"); },
      [](const Window& window) {
        return fmt::format("window({}, {})", print_bound(window.left), print_bound(window.right));
      },
      [](const Dilated& dilated) {
        return fmt::format("dilated({}, {}, {})", print_bound(dilated.left), print_bound(dilated.right), dilated.step);
      },
      [](const Sink& sink) { return fmt::format("sink({})", sink.count); },
      [](const Global& global) { return print_global(global); },
      [](const Documents& documents) { return fmt::format("documents(@{})", documents.segment); },
      [](const Blocks& blocks) { return print_blocks(blocks); },
      [](const BigBird& bigbird) { return print_bigbird(bigbird); },
      [](const Bits& bits) { return fmt::format("bits(@{})", bits.array); },
      [](const Where& where) { return fmt::format("where({})", print(where.condition)); },
      [](const And& conjunction) { return print_operands(conjunction.operands, MaskLevel::kAnd, " & "); },
      [](const Or& disjunction) { return print_operands(disjunction.operands, MaskLevel::kOr, " | "); },
      [](const Not& negation) { return "~" + print_operand(*negation.operand, MaskLevel::kNot); });
}

std::string print(const Shape& shape) { return join(clauses_of(shape), "  "); }

std::string print(const Pattern& pattern) { return join(clauses_of(pattern), "\n"); }

std::string print(const LengthDistribution& distribution) {
  return match(
      distribution, [](const FixedLength& fixed) { return fmt::format("fixed({})", fixed.length); },
      [](const UniformLength& uniform) { return fmt::format("uniform({}, {})", uniform.min, uniform.max); },
      [](const LognormalLength& lognormal) {
        return fmt::format("lognormal(mean={}, sigma={}, min={}, max={})", lognormal.mean, lognormal.sigma,
                           lognormal.min, lognormal.max);
      },
      [](const HistogramLength& histogram) { return print_histogram(histogram); },
      [](const TraceLength& trace) { return fmt::format("trace({})", quoted_path(trace.path)); });
}

std::string print(const Workload& workload) {
  std::string text = workload.name.empty() ? "attention {\n" : fmt::format("attention {} {{\n", workload.name);
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "  {}\n", print(workload.shape));
  for (const PrintedClause& clause : clauses_of(workload.pattern)) {
    fmt::format_to(out, "  {:<8}{}\n", clause.name, clause.value);
  }
  fmt::format_to(out, "  {:<8}{}  batch {}\n}}\n", "lengths", print(workload.lengths), workload.batch);
  return text;
}

std::string canonical_text(const Pattern& pattern, const Shape& shape) {
  return join(clauses_of(shape), " ") + " " + join(clauses_of(pattern), " ");
}

}  // namespace harrier
