// Simplifies a mask by a table of identities, to a fixed point.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "ir/pattern.h"

namespace harrier {

/// One identity: gives the simpler mask where the node has its shape, nothing otherwise. Operands are simplified
/// already.
struct MaskRule {
  const char* name;  // as mathematics: "a & all = a"
  std::function<std::optional<Mask>(const Mask&)> apply;
};

const std::vector<MaskRule>& mask_rules();

/// Nodes of the mask's tree, itself included; a where(...) is one node.
int64_t node_count(const Mask& mask);

/// Same multiplicity everywhere, never more nodes, simplify(simplify(m)) == simplify(m). Operands of & and | come out
/// in a fixed order, so masks that differ only in that order print alike.
Mask simplify(const Mask& mask);
Pattern simplify(const Pattern& pattern);

}  // namespace harrier
