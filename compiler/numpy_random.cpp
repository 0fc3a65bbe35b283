#include "compiler/numpy_random.h"

#include <utility>

namespace harrier {

uint32_t NumpyRandom::interval(uint32_t max) {
  // NumPy draws nothing at all for an interval of one number.
  if (max == 0) return 0;
  uint32_t mask = max;
  for (uint32_t shift = 1; shift < 32; shift *= 2) mask |= mask >> shift;
  uint32_t value = max;
  do {
    value = static_cast<uint32_t>(engine_()) & mask;
  } while (value > max);
  return value;
}

std::vector<int32_t> NumpyRandom::permutation(std::vector<int32_t> values) {
  for (size_t i = values.size(); i-- > 1;) std::swap(values[i], values[interval(static_cast<uint32_t>(i))]);
  return values;
}

}  // namespace harrier
