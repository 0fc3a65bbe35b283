// NumPy's legacy generator (numpy.random.seed, numpy.random.permutation), bit for bit: BigBird's random blocks are
// drawn with it.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace harrier {

class NumpyRandom {
 public:
  /// As numpy.random.seed(seed).
  explicit NumpyRandom(uint32_t seed) : engine_(seed) {}

  /// A number of [0, max], drawn as NumPy's legacy interval: masked to the next power of two, rejected when above.
  uint32_t interval(uint32_t max);

  /// As numpy.random.permutation(values) of a one-dimensional array.
  std::vector<int32_t> permutation(std::vector<int32_t> values);

 private:
  // The standard's Mersenne Twister seeds itself and tempers exactly as NumPy's does.
  std::mt19937 engine_;
};

}  // namespace harrier
