// Small draws that random patterns and arrays share.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace harrier {

/// An integer of [low, high].
inline int64_t draw(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

inline bool chance(std::mt19937_64& random, double probability) {
  return std::bernoulli_distribution(probability)(random);
}

template <typename T>
const T& pick(std::mt19937_64& random, const std::vector<T>& from) {
  return from[static_cast<size_t>(draw(random, 0, static_cast<int64_t>(from.size()) - 1))];
}

}  // namespace harrier
