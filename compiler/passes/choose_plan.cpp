#include "compiler/passes/choose_plan.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "ir/error.h"
#include "ir/match.h"

namespace harrier {
namespace {

constexpr int64_t kLargestTile = 64;

int64_t largest_divisor(int64_t value, int64_t limit) {
  for (int64_t divisor = std::min(value, limit); divisor > 1; --divisor) {
    if (value % divisor == 0) return divisor;
  }
  return 1;
}

/// Keys (or value dimensions) of one register block, by the vectors of queries beside them.
struct BlockWidths {
  std::array<int, 4> keys;
  std::array<int, 4> values;
};

// Accumulators, one vector of queries each, and a broadcast key must fit: vectors * width + vectors + 1 <= registers.
// Sixteen accumulators hide the latency of two multiply-add units; widths that divide a tile of 64 keys compute no key
// twice.
constexpr BlockWidths kWidthsOf32 = {.keys = {16, 8, 8, 4}, .values = {8, 8, 4, 4}};
constexpr BlockWidths kWidthsOf16 = {.keys = {8, 5, 3, 2}, .values = {8, 4, 3, 2}};

}  // namespace

int64_t common_block(const Mask& mask) {
  const auto of_operands = [](const std::vector<Mask>& operands) {
    int64_t common = 0;
    for (const Mask& operand : operands) common = std::gcd(common, common_block(operand));
    return common;
  };
  return match(
      mask.node, [](const Blocks& atom) { return atom.size; }, [](const BigBird& atom) { return atom.block; },
      [&](const And& node) { return of_operands(node.operands); },
      [&](const Or& node) { return of_operands(node.operands); },
      [](const Not& node) { return common_block(*node.operand); }, [](const auto&) { return int64_t{0}; });
}

CpuPlan choose_cpu_plan(const Workload& workload, const CpuTarget& target) {
  HARRIER_CHECK(target.vector_lanes >= 1, "the target has no vector lanes");
  HARRIER_CHECK(target.vector_registers >= 16, "the target has fewer than 16 vector registers");
  const int64_t block = common_block(workload.pattern.mask);
  const int64_t tile = block == 0 ? kLargestTile : largest_divisor(block, kLargestTile);
  const bool many_registers = target.vector_registers >= 32;
  const int64_t vectors = (tile + target.vector_lanes - 1) / target.vector_lanes;
  const int q_vectors = static_cast<int>(largest_divisor(vectors, many_registers ? 4 : 2));
  const BlockWidths& widths = many_registers ? kWidthsOf32 : kWidthsOf16;
  return {.tile_q = tile,
          .tile_k = tile,
          .vector_lanes = target.vector_lanes,
          .q_vectors = q_vectors,
          .key_block = widths.keys[q_vectors - 1],
          .value_block = widths.values[q_vectors - 1]};
}

}  // namespace harrier
