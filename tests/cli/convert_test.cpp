#include "cli/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "cli_fixture.h"
#include "ir/error.h"

namespace harrier {
namespace {

TEST(Convert, EveryHalfAndBfloat16SurvivesFloat) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float from_half = float_from_float16(half);
    const float from_bfloat = float_from_bfloat16(half);
    if (std::isnan(from_half)) {
      EXPECT_TRUE(std::isnan(float_from_float16(float16_from_float(from_half))));
    } else {
      EXPECT_EQ(float16_from_float(from_half), half) << bits;
    }
    if (std::isnan(from_bfloat)) {
      EXPECT_TRUE(std::isnan(float_from_bfloat16(bfloat16_from_float(from_bfloat))));
    } else {
      EXPECT_EQ(bfloat16_from_float(from_bfloat), half) << bits;
    }
  }
}

TEST(Convert, RoundsToTheNearestAndTiesToEven) {
  // Between each pair of neighbours: the middle goes to the even one, a hair more or less to the nearer one.
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = float_from_float16(static_cast<uint16_t>(bits));
    const double high = float_from_float16(static_cast<uint16_t>(bits + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    EXPECT_EQ(float16_from_float(middle), bits + (bits & 1)) << bits;
    EXPECT_EQ(float16_from_float(std::nextafter(middle, 0.0F)), bits) << bits;
    EXPECT_EQ(float16_from_float(std::nextafter(middle, 1e9F)), bits + 1) << bits;
  }
  EXPECT_EQ(bfloat16_from_float(std::bit_cast<float>(0x3f808000)), 0x3f80);
  EXPECT_EQ(bfloat16_from_float(std::bit_cast<float>(0x3f818000)), 0x3f82);
  EXPECT_EQ(bfloat16_from_float(std::bit_cast<float>(0x3f808001)), 0x3f81);
}

TEST(Convert, OverflowsToInfinityAndKeepsSigns) {
  EXPECT_EQ(float16_from_float(65519.0F), 0x7bff);
  EXPECT_EQ(float16_from_float(65520.0F), 0x7c00);
  EXPECT_EQ(float16_from_float(-1e30F), 0xfc00);
  EXPECT_EQ(float16_from_float(-0.0F), 0x8000);
  EXPECT_EQ(bfloat16_from_float(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(float_from_bfloat16(bfloat16_from_float(std::bit_cast<float>(0x7fffffff)))));
}

TEST(Convert, ReadsUInt16AsBitsOnlyForBf16) {
  const NpyArray raw = make_array<uint16_t>(ElementType::kUInt16, {1}, {0x3f80});
  EXPECT_EQ(in_dtype(raw, DataType::kBFloat16, "--q q.npy").type, ElementType::kBFloat16);
  EXPECT_EQ(in_dtype(in_dtype(raw, DataType::kBFloat16, ""), DataType::kFloat32, ""),
            make_array<float>(ElementType::kFloat32, {1}, {1.0F}));
  try {
    in_dtype(raw, DataType::kFloat32, "--q q.npy");
    FAIL() << "uint16 is no float";
  } catch (const InvalidInput& error) {
    EXPECT_STREQ(error.what(), "--q q.npy: dtype uint16 cannot be read as fp32: save it as float32");
  }
}

TEST(Convert, ConvertsDoublesThroughEveryDtype) {
  const NpyArray doubles = make_array<double>(ElementType::kFloat64, {3}, {1.0, -2.5, 1e-3});
  for (const DataType dtype : {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16}) {
    const NpyArray converted = in_dtype(doubles, dtype, "a");
    const std::vector<float> values = as_floats(converted.bytes.data(), converted.type, 3);
    EXPECT_EQ(values[0], 1.0F);
    EXPECT_EQ(values[1], -2.5F);
    EXPECT_NEAR(values[2], 1e-3, 1e-5);
  }
}

}  // namespace
}  // namespace harrier
