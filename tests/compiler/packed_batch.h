// Batches whose sequences are equally long.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/geometry.h"

namespace harrier {

inline Geometry packed_batch(int64_t batch, int64_t length) {
  return packed_geometry(std::vector<int64_t>(static_cast<size_t>(batch), length));
}

}  // namespace harrier
