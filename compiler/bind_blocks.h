// Block lists of a launch, from tables, compressed rows or BigBird's formula.
#pragma once

#include "compiler/bind_arrays.h"
#include "ir/mask.h"

namespace harrier {

/// Sorted, merged lists with multiplicities. Throws InvalidInput for shapes and entries that do not fit the geometry.
BlockLists bind_blocks(BindState& state, const Blocks& blocks);
BlockLists bind_bigbird(BindState& state, const BigBird& bigbird);

}  // namespace harrier
