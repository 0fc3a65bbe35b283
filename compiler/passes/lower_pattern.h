// Lowers a verified, simplified pattern to the expressions that code generators evaluate: the multiplicity of (b, h, q,
// k) in partial tiles, and the score. Semantics live here once for all backends; numbers become parameters, arrays
// become slots.
#pragma once

#include "ir/lowered.h"
#include "ir/workload.h"

namespace harrier {

/// Array slots that binding derives from the user's arrays: for global tokens "NAME.member" (uint8 [key_tokens], 1 =
/// global), for documents "NAME" (int32 [key_tokens]), for bits "NAME" (uint8), for expressions "NAME" (int32 or
/// float32). Block tables and bigbird become TileCount slots, in order of appearance.
LoweredPattern lower_pattern(const Pattern& pattern, const Shape& shape);

}  // namespace harrier
