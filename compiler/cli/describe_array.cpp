#include "cli/describe_array.h"

#include <fmt/core.h>

#include <optional>

#include "ir/match.h"

namespace harrier {
namespace {

/// The block atom that names `array`.
struct BlockNumbers {
  int64_t size;
  int64_t random;
};

std::optional<BlockNumbers> find_blocks(const Mask& mask, const std::string& array) {
  const auto search = [&](const std::vector<Mask>& operands) {
    std::optional<BlockNumbers> found;
    for (size_t i = 0; i < operands.size() && !found; ++i) found = find_blocks(operands[i], array);
    return found;
  };
  return match(
      mask.node, [&](const And& node) { return search(node.operands); },
      [&](const Or& node) { return search(node.operands); },
      [&](const Not& node) { return find_blocks(*node.operand, array); },
      [&](const Blocks& blocks) -> std::optional<BlockNumbers> {
        if (blocks.table != array && blocks.offsets != array && blocks.indices != array) return std::nullopt;
        return BlockNumbers{.size = blocks.size, .random = 0};
      },
      [&](const BigBird& bigbird) -> std::optional<BlockNumbers> {
        const auto* table = std::get_if<BigBirdTable>(&bigbird.source);
        if (table == nullptr || table->array != array) return std::nullopt;
        return BlockNumbers{.size = bigbird.block, .random = bigbird.random};
      },
      [](const auto&) -> std::optional<BlockNumbers> { return std::nullopt; });
}

std::string indices_of(int rank) {
  if (rank <= 0) return "one number, shape []";
  return fmt::format("{} dimension{}, as far as its indices reach", rank, rank == 1 ? "" : "s");
}

}  // namespace

std::string describe_array(const ArrayUse& use, const Pattern& pattern, const Shape& shape) {
  const BlockNumbers blocks = find_blocks(pattern.mask, use.name).value_or(BlockNumbers{.size = 0, .random = 0});
  const std::string heads = shape.heads == 1 ? "1" : fmt::format("{} or 1", shape.heads);
  switch (use.role) {
    case ArrayRole::kGlobalTokens:
      return "integers [n] or [batch, n], padded with -1";
    case ArrayRole::kSegment:
      return "integers [tokens] when packed, [batch, length] or [length]";
    case ArrayRole::kBlockTable:
      return fmt::format("integers [{}, row blocks, key blocks], blocks of {}", heads, blocks.size);
    case ArrayRole::kBlockOffsets:
      return fmt::format("integers [{}, row blocks + 1], blocks of {}", heads, blocks.size);
    case ArrayRole::kBlockIndices:
      return fmt::format("integers [n], key blocks of {}", blocks.size);
    case ArrayRole::kRandomBlocks:
      return fmt::format("integers [{}, row blocks - 2 or more, {}], blocks of {}", heads, blocks.random, blocks.size);
    case ArrayRole::kBits:
      return fmt::format("bool [batch or 1, {0}, q_len, kv_len] or uint8 [batch or 1, {0}, q_len, ceil(kv_len / 8)]",
                         heads);
    case ArrayRole::kAlibiSlopes:
    case ArrayRole::kSinkLogits:
      return fmt::format("floats [{}]", shape.heads);
    case ArrayRole::kBias:
      return fmt::format("floats [batch or 1, {}, q_len, kv_len]", heads);
    case ArrayRole::kExpressionInt:
      return "integers, " + indices_of(use.rank);
    case ArrayRole::kExpressionFloat:
      return "floats, " + indices_of(use.rank);
  }
  return "";
}

}  // namespace harrier
