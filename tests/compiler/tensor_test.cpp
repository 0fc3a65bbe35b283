// Tensors that fit give their geometry; those that do not are refused before any element is touched.
#include "compiler/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "ir/error.h"

namespace harrier {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Shape kShape{.heads = 4, .kv_heads = 2, .head_dim = 16, .value_dim = 8};

/// Tensors are checked, never read: any aligned address will do.
alignas(64) std::array<float, 16> memory;

TensorView tensor(std::vector<int64_t> shape, std::vector<int64_t> strides = {}) {
  return {.data = memory.data(), .dtype = DataType::kFloat32, .shape = std::move(shape), .strides = std::move(strides)};
}

AttentionTensors padded(int64_t batch, int64_t queries, int64_t keys) {
  AttentionTensors tensors;
  tensors.q = tensor({batch, 4, queries, 16});
  tensors.k = tensor({batch, 2, keys, 16});
  tensors.v = tensor({batch, 2, keys, 8});
  tensors.out = tensor({batch, 4, queries, 8});
  return tensors;
}

AttentionTensors packed(std::vector<int64_t> offsets) {
  AttentionTensors tensors;
  const int64_t tokens = offsets.back();
  tensors.q = tensor({tokens, 4, 16});
  tensors.k = tensor({tokens, 2, 16});
  tensors.v = tensor({tokens, 2, 8});
  tensors.out = tensor({tokens, 4, 8});
  tensors.cu_seqlens = std::move(offsets);
  return tensors;
}

std::string refusal(const AttentionTensors& tensors, const Shape& shape = kShape) {
  try {
    check_tensors(tensors, shape);
  } catch (const InvalidInput& error) {
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

TEST(CheckTensors, PaddedBatchesHaveOneExtentAndTheirLengths) {
  AttentionTensors tensors = padded(2, 10, 10);
  tensors.lengths = {10, 7};
  const Geometry geometry = check_tensors(tensors, kShape);
  EXPECT_EQ(geometry.query_tokens, 20);
  EXPECT_EQ(
      geometry.sequences[1],
      (Sequence{
          .query_length = 10, .key_length = 10, .query_valid = 7, .key_valid = 7, .query_token = 10, .key_token = 10}));
  AttentionTensors cross = padded(2, 10, 12);
  cross.lengths = {10, 7};
  EXPECT_EQ(check_tensors(cross, kShape).sequences[1].key_valid, 12);
  cross.key_lengths = {12, 3};
  EXPECT_EQ(check_tensors(cross, kShape).sequences[1].key_valid, 3);
}

TEST(CheckTensors, PackedBatchesHaveTheirOwnExtents) {
  AttentionTensors tensors = packed({0, 3, 3, 10});
  const Geometry geometry = check_tensors(tensors, kShape);
  ASSERT_EQ(geometry.sequences.size(), 3U);
  EXPECT_EQ(geometry.sequences[1].query_length, 0);
  EXPECT_EQ(
      geometry.sequences[2],
      (Sequence{
          .query_length = 7, .key_length = 7, .query_valid = 7, .key_valid = 7, .query_token = 3, .key_token = 3}));
  tensors.k = tensor({20, 2, 16});
  tensors.v = tensor({20, 2, 8});
  EXPECT_THAT(refusal(tensors), HasSubstr("20"));
  tensors.key_cu_seqlens = {0, 5, 9, 20};
  EXPECT_EQ(check_tensors(tensors, kShape).sequences[2].key_length, 11);
}

TEST(CheckTensors, EmptyBatchesAndLengthsAreLegal) {
  EXPECT_TRUE(check_tensors(padded(0, 10, 10), kShape).sequences.empty());
  EXPECT_EQ(check_tensors(padded(2, 0, 5), kShape).sequences[1].query_length, 0);
  EXPECT_TRUE(check_tensors(packed({0}), kShape).sequences.empty());
}

TEST(CheckTensors, RefusesShapesThatDoNotFit) {
  AttentionTensors tensors = padded(2, 10, 10);
  tensors.q.shape = {2, 4, 10};
  EXPECT_THAT(refusal(tensors), AllOf(HasSubstr("q has shape [2, 4, 10]"), HasSubstr("expected 4")));
  tensors = padded(2, 10, 10);
  tensors.k.shape[1] = 4;
  EXPECT_THAT(refusal(tensors), AllOf(HasSubstr("k has shape [2, 4, 10, 16]"), HasSubstr("[2, 2, 10, 16]")));
  tensors = padded(2, 10, 10);
  tensors.v.shape[2] = 9;
  EXPECT_THAT(refusal(tensors), HasSubstr("v has shape"));
  tensors = padded(2, 10, 10);
  tensors.out.shape[3] = 16;
  EXPECT_THAT(refusal(tensors), HasSubstr("out has shape"));
  tensors = padded(2, 10, 10);
  tensors.lse = tensor({2, 10, 4});
  EXPECT_THAT(refusal(tensors), HasSubstr("lse has shape"));
  tensors = padded(-2, 10, 10);
  EXPECT_THAT(refusal(tensors), HasSubstr("-2"));
}

TEST(CheckTensors, RefusesTypesAndMemoryThatDoNotFit) {
  AttentionTensors tensors = padded(1, 4, 4);
  tensors.k.dtype = DataType::kBFloat16;
  EXPECT_THAT(refusal(tensors), AllOf(HasSubstr("k holds bf16"), HasSubstr("fp32")));
  tensors = padded(1, 4, 4);
  tensors.v.data = nullptr;
  EXPECT_THAT(refusal(tensors), HasSubstr("v has shape"));
  tensors = padded(1, 4, 4);
  tensors.q.data = reinterpret_cast<char*>(memory.data()) + 1;
  EXPECT_THAT(refusal(tensors), HasSubstr("multiple of 4 bytes"));
}

TEST(CheckTensors, RefusesStridesThatDoNotFit) {
  AttentionTensors tensors = padded(2, 10, 10);
  tensors.q.strides = {640, 160, 16};
  EXPECT_THAT(refusal(tensors), HasSubstr("3 strides for 4 dimensions"));
  tensors.q.strides = {640, 160, 1, 10};
  EXPECT_THAT(refusal(tensors), HasSubstr("stride 10"));
  tensors.q.strides = {640, 160, -16, 1};
  EXPECT_THAT(refusal(tensors), HasSubstr("-16"));
  // Inputs may broadcast, the output may not share memory.
  tensors.q.strides = {0, 160, 16, 1};
  EXPECT_NO_THROW(check_tensors(tensors, kShape));
  tensors.out.strides = {0, 80, 8, 1};
  EXPECT_THAT(refusal(tensors), HasSubstr("share memory"));
  // Heads and tokens interleaved, as a projection leaves them.
  tensors.out.strides = {320, 8, 32, 1};
  EXPECT_NO_THROW(check_tensors(tensors, kShape));
}

TEST(CheckTensors, RefusesLengthsThatDoNotFit) {
  AttentionTensors tensors = padded(2, 10, 10);
  tensors.lengths = {10};
  EXPECT_THAT(refusal(tensors), AllOf(HasSubstr("1 numbers"), HasSubstr("2 rows")));
  tensors.lengths = {10, 11};
  EXPECT_THAT(refusal(tensors), AllOf(HasSubstr("lengths[1] is 11"), HasSubstr("0 to 10")));
  tensors.lengths = {-1, 10};
  EXPECT_THAT(refusal(tensors), HasSubstr("lengths[0] is -1"));
  AttentionTensors offsets = packed({0, 4, 9});
  offsets.lengths = {4, 5};
  EXPECT_THAT(refusal(offsets), HasSubstr("lengths"));
  offsets = packed({0, 4, 9});
  offsets.cu_seqlens = {0, 7, 5, 9};
  EXPECT_THAT(refusal(offsets), HasSubstr("cu_seqlens[2] is 5"));
  offsets.cu_seqlens = {1, 4, 9};
  EXPECT_THAT(refusal(offsets), HasSubstr("from 1 to 9"));
  offsets.cu_seqlens = {0, 4, 8};
  EXPECT_THAT(refusal(offsets), HasSubstr("0 to 9"));
  offsets = padded(2, 10, 10);
  offsets.key_cu_seqlens = {0, 10, 20};
  EXPECT_THAT(refusal(offsets), HasSubstr("key_cu_seqlens"));
}

TEST(CheckTensors, OffsetsPast32BitsAreLegalAndOverflowingOnesAreNot) {
  // 2^31 tokens x 4 heads x 16 numbers: 2^37 elements in all, none of them read.
  const int64_t half = int64_t{1} << 30;
  const Geometry geometry = check_tensors(packed({0, half, 2 * half, 3 * half}), kShape);
  EXPECT_EQ(geometry.sequences[2].query_token, int64_t{1} << 31);
  const Geometry rows = check_tensors(padded(1 << 20, 1 << 14, 1 << 14), kShape);
  EXPECT_EQ(rows.sequences.back().key_token, ((int64_t{1} << 20) - 1) << 14);
  AttentionTensors strided = padded(2, 2, 2);
  strided.k.strides = {int64_t{1} << 40, int64_t{1} << 33, 16, 1};
  EXPECT_NO_THROW(check_tensors(strided, kShape));
  strided.k.strides = {int64_t{1} << 60, 32, 16, 1};
  EXPECT_THAT(refusal(strided), HasSubstr("2^62 bytes"));
  EXPECT_THAT(refusal(packed({0, int64_t{1} << 31})), HasSubstr("2147483647"));
  EXPECT_THAT(refusal(padded(int64_t{1} << 31, 1, 1)), HasSubstr("the batch of q"));
  EXPECT_THROW(check_tensors(packed({0, int64_t{1} << 60}), kShape), InvalidInput);
}

}  // namespace
}  // namespace harrier
