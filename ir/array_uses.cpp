#include <fmt/format.h>

#include <map>
#include <utility>

#include "ir/error.h"
#include "ir/match.h"
#include "ir/verify.h"

namespace harrier {
namespace {

std::string describe(const ArrayUse& use) {
  if (use.rank < 0) return name_of(use.role);
  return fmt::format("{} with {} {}", name_of(use.role), use.rank, use.rank == 1 ? "index" : "indices");
}

class UseCollector {
 public:
  std::vector<ArrayUse> take() { return std::move(uses_); }

  void add(const std::string& name, ArrayRole role, int rank = -1) {
    const auto [place, is_new] = places_.emplace(name, uses_.size());
    const ArrayUse use{.name = name, .role = role, .rank = rank};
    if (is_new) {
      uses_.push_back(use);
    } else if (use != uses_[place->second]) {
      throw InvalidInput(
          fmt::format("@{} is used as {} and as {}, an array has one use; give the second a name of its own", name,
                      describe(uses_[place->second]), describe(use)));
    }
  }

  void add_mask(const Mask& mask) {
    match(
        mask.node,
        [&](const Global& global) {
          if (!global.tokens.empty()) add(global.tokens, ArrayRole::kGlobalTokens);
        },
        [&](const Documents& documents) { add(documents.segment, ArrayRole::kSegment); },
        [&](const Blocks& blocks) {
          if (!blocks.table.empty()) add(blocks.table, ArrayRole::kBlockTable);
          if (!blocks.offsets.empty()) add(blocks.offsets, ArrayRole::kBlockOffsets);
          if (!blocks.indices.empty()) add(blocks.indices, ArrayRole::kBlockIndices);
        },
        [&](const BigBird& bigbird) {
          if (const auto* table = std::get_if<BigBirdTable>(&bigbird.source))
            add(table->array, ArrayRole::kRandomBlocks);
        },
        [&](const Bits& bits) { add(bits.array, ArrayRole::kBits); },
        [&](const Where& where) { add_expression(where.condition); },
        [&](const And& conjunction) { add_masks(conjunction.operands); },
        [&](const Or& disjunction) { add_masks(disjunction.operands); },
        [&](const Not& negation) { add_mask(*negation.operand); }, [](const auto&) {});
  }

  void add_expression(const Expression& expression) {
    match(
        expression.node,
        [&](const Load& load) {
          const ArrayRole role = load.is_float ? ArrayRole::kExpressionFloat : ArrayRole::kExpressionInt;
          add(load.array, role, static_cast<int>(load.indices.size()));
          for (const Expression& index : load.indices) add_expression(index);
        },
        [&](const Unary& unary) { add_expression(*unary.operand); },
        [&](const Binary& binary) {
          add_expression(*binary.left);
          add_expression(*binary.right);
        },
        [&](const Select& select) {
          add_expression(*select.condition);
          add_expression(*select.if_true);
          add_expression(*select.if_false);
        },
        [](const auto&) {});
  }

 private:
  void add_masks(const std::vector<Mask>& masks) {
    for (const Mask& mask : masks) add_mask(mask);
  }

  std::vector<ArrayUse> uses_;
  std::map<std::string, std::size_t> places_;
};

}  // namespace

const char* name_of(ArrayRole role) {
  switch (role) {
    case ArrayRole::kGlobalTokens:
      return "global tokens";
    case ArrayRole::kSegment:
      return "segment ids";
    case ArrayRole::kBlockTable:
      return "block table";
    case ArrayRole::kBlockOffsets:
      return "block list offsets";
    case ArrayRole::kBlockIndices:
      return "block list indices";
    case ArrayRole::kRandomBlocks:
      return "random blocks";
    case ArrayRole::kBits:
      return "bit mask";
    case ArrayRole::kAlibiSlopes:
      return "alibi slopes";
    case ArrayRole::kBias:
      return "bias";
    case ArrayRole::kSinkLogits:
      return "sink logits";
    case ArrayRole::kExpressionInt:
      return "int array";
    case ArrayRole::kExpressionFloat:
      break;
  }
  return "float array";
}

bool has_gradient(ArrayRole role) {
  return role == ArrayRole::kAlibiSlopes || role == ArrayRole::kBias || role == ArrayRole::kSinkLogits ||
         role == ArrayRole::kExpressionFloat;
}

std::vector<ArrayUse> array_uses(const Pattern& pattern) {
  UseCollector collector;
  collector.add_mask(pattern.mask);
  const Score& score = pattern.score;
  if (!score.alibi.empty()) collector.add(score.alibi, ArrayRole::kAlibiSlopes);
  if (!score.bias.empty()) collector.add(score.bias, ArrayRole::kBias);
  if (score.expression) collector.add_expression(*score.expression);
  if (const auto* sink = std::get_if<SoftmaxSinkLogit>(&pattern.softmax)) {
    collector.add(sink->logits, ArrayRole::kSinkLogits);
  }
  return collector.take();
}

}  // namespace harrier
