// Lowers a verified, simplified pattern to the expressions that code generators evaluate: the multiplicity of (b, h, q,
// k) in partial tiles, and the score. Semantics live here once for all backends; numbers become parameters, arrays
// become slots.
#pragma once

#include "ir/lowered.h"
#include "ir/workload.h"

namespace harrier {

/// Block tables that a key run can carry the counts of: 8 bits each.
inline constexpr int kMaxTableSlots = 4;

/// Array slots that binding derives from the user's arrays:
///  * global tokens: "NAME.member", uint8 [key_tokens], 1 = global. The positions of a sequence are those of its keys,
///    so it is read at k_token for the key and at k_token - k + q' for the query (q' clamped to 0 where negative).
///  * documents: "NAME", int32 [key_tokens], read at the same two places.
///  * bits: "NAME", uint8 [b, h, q, k >> 3], always packed: bit k & 7. Binding packs bool arrays.
///  * expressions: "NAME", int32 or float32, indices as written; alibi and sink logits: float32 [h]; bias: float32
///    [b, h, q, k].
/// Dimensions that the user left out or gave as 1 have stride 0. Block tables and bigbird become TileCount slots, in
/// order of appearance, depth first and left to right; more than kMaxTableSlots are an InvalidInput.
///
/// Slots stand in the order of first appearance: mask, score, sink logits.
LoweredPattern lower_pattern(const Pattern& pattern, const Shape& shape);

}  // namespace harrier
