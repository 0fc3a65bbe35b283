// Numbers written here were printed by NumPy 2.4.6: np.random.seed(s), then np.random.permutation(n).
#include "compiler/numpy_random.h"

#include <gtest/gtest.h>

#include <numeric>

namespace harrier {
namespace {

std::vector<int32_t> count_up(int32_t count) {
  std::vector<int32_t> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

TEST(NumpyRandom, PermutationsAreNumpys) {
  NumpyRandom seven(7);
  EXPECT_EQ(seven.permutation(count_up(10)), (std::vector<int32_t>{8, 5, 0, 2, 1, 9, 7, 3, 6, 4}));
  EXPECT_EQ(seven.permutation(count_up(17)),
            (std::vector<int32_t>{1, 5, 11, 13, 2, 3, 9, 16, 12, 0, 4, 6, 7, 8, 15, 10, 14}));
  NumpyRandom largest(4294967295U);
  EXPECT_EQ(largest.permutation(count_up(9)), (std::vector<int32_t>{5, 1, 8, 7, 0, 6, 4, 2, 3}));
}

TEST(NumpyRandom, ShortArraysDrawNothing) {
  NumpyRandom random(0);
  EXPECT_TRUE(random.permutation({}).empty());
  EXPECT_EQ(random.permutation({5}), (std::vector<int32_t>{5}));
  EXPECT_EQ(random.permutation(count_up(20)),
            (std::vector<int32_t>{18, 1, 19, 8, 10, 17, 6, 13, 4, 2, 5, 14, 9, 7, 16, 11, 3, 0, 15, 12}));
}

TEST(NumpyRandom, LongArraysPassTheGeneratorsState) {
  NumpyRandom random(123);
  const std::vector<int32_t> first = random.permutation(count_up(100000));
  EXPECT_EQ(std::vector<int32_t>(first.begin(), first.begin() + 5),
            (std::vector<int32_t>{42083, 71825, 99535, 47879, 36734}));
  EXPECT_EQ(std::vector<int32_t>(first.end() - 3, first.end()), (std::vector<int32_t>{17730, 28030, 15725}));
  const std::vector<int32_t> second = random.permutation(count_up(70000));
  EXPECT_EQ(std::vector<int32_t>(second.begin(), second.begin() + 4),
            (std::vector<int32_t>{4596, 18122, 36469, 55166}));
}

}  // namespace
}  // namespace harrier
