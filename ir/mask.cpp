#include "ir/mask.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "ir/match.h"

namespace harrier {
namespace {

/// The operands of `left OP right`, where an operand that is OP itself gives its own operands.
template <typename Operator>
Mask join(Mask left, Mask right) {
  Operator joined;
  const auto append = [&joined](Mask operand) {
    if (auto* nested = std::get_if<Operator>(&operand.node)) {
      if (joined.operands.empty()) {
        joined.operands = std::move(nested->operands);
      } else {
        std::ranges::move(nested->operands, std::back_inserter(joined.operands));
      }
    } else {
      joined.operands.push_back(std::move(operand));
    }
  };
  append(std::move(left));
  append(std::move(right));
  return {std::move(joined)};
}

}  // namespace

Mask all() { return {All{}}; }
Mask none() { return {None{}}; }
Mask causal() { return {Causal{}}; }
Mask window(int64_t left, int64_t right) { return {Window{.left = left, .right = right}}; }

Mask dilated(int64_t left, int64_t right, int64_t step) {
  return {Dilated{.left = left, .right = right, .step = step}};
}

Mask sink(int64_t count) { return {Sink{.count = count}}; }
Mask prefix(int64_t count) { return sink(count); }

Mask global_tokens(int64_t count, GlobalSide side) { return {Global{.count = count, .tokens = {}, .side = side}}; }

Mask global_tokens(std::string tokens, GlobalSide side) {
  return {Global{.count = 0, .tokens = std::move(tokens), .side = side}};
}

Mask documents(std::string segment) { return {Documents{.segment = std::move(segment)}}; }

Mask blocks(int64_t size, std::string table, bool counted) {
  return {Blocks{.size = size, .table = std::move(table), .offsets = {}, .indices = {}, .counted = counted}};
}

Mask block_lists(int64_t size, std::string offsets, std::string indices, bool counted) {
  return {Blocks{
      .size = size, .table = {}, .offsets = std::move(offsets), .indices = std::move(indices), .counted = counted}};
}

Mask bigbird(int64_t block, int64_t random, std::variant<BigBirdTable, BigBirdSeed, BigBirdZero> source) {
  return {BigBird{.block = block, .random = random, .source = std::move(source)}};
}

Mask bits(std::string array) { return {Bits{.array = std::move(array)}}; }
Mask where(Expression condition) { return {Where{.condition = std::move(condition)}}; }

Mask operator&(Mask left, Mask right) { return join<And>(std::move(left), std::move(right)); }
Mask operator|(Mask left, Mask right) { return join<Or>(std::move(left), std::move(right)); }
Mask operator~(Mask operand) { return {Not{.operand = std::move(operand)}}; }

bool is_counted(const Mask& mask) {
  const auto any_counted = [](const std::vector<Mask>& operands) { return std::ranges::any_of(operands, is_counted); };
  return match(
      mask.node, [](const BigBird&) { return true; }, [](const Blocks& blocks) { return blocks.counted; },
      [&](const And& conjunction) { return any_counted(conjunction.operands); },
      [&](const Or& disjunction) { return any_counted(disjunction.operands); },
      [](const Not&) { return false; },  // ~ gives 0 or 1 whatever it negates
      [](const auto&) { return false; });
}

}  // namespace harrier
