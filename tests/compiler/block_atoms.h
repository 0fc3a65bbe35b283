// The block tables that a mask names.
#pragma once

#include <algorithm>
#include <variant>
#include <vector>

#include "ir/mask.h"
#include "ir/match.h"

namespace harrier {

/// The block atoms of a mask in slot order.
inline void collect_tables(const Mask& mask, std::vector<Mask>& tables) {
  const auto collect = [&](const std::vector<Mask>& operands) {
    for (const Mask& operand : operands) collect_tables(operand, tables);
  };
  match(
      mask.node, [&](const Blocks&) { tables.push_back(mask); }, [&](const BigBird&) { tables.push_back(mask); },
      [&](const And& node) { collect(node.operands); }, [&](const Or& node) { collect(node.operands); },
      [&](const Not& node) { collect_tables(*node.operand, tables); }, [](const auto&) {});
}

/// BigBird needs queries and keys of the same length.
inline bool has_bigbird(const Mask& mask) {
  std::vector<Mask> tables;
  collect_tables(mask, tables);
  return std::ranges::any_of(tables, [](const Mask& table) { return std::holds_alternative<BigBird>(table.node); });
}

}  // namespace harrier
