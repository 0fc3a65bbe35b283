// The geometry of a packed batch, from lengths alone.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/geometry.h"

namespace harrier {

/// Sequences one after another; `key_lengths` empty: as the queries'.
Geometry packed_geometry(const std::vector<int64_t>& query_lengths, const std::vector<int64_t>& key_lengths = {});

}  // namespace harrier
