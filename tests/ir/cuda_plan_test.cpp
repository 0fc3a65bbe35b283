// Plans of CUDA kernels: defaults fit the GPUs that they are for, whatever the shape; what does not fit is named.
#include "ir/cuda_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan_refusal.h"

namespace harrier {
namespace {

using test::refusal;
constexpr int64_t kBlockRows[] = {0, 16, 32, 64, 128};

Shape shape(int64_t head_dim, int64_t value_dim) {
  return {.head_dim = head_dim, .value_dim = value_dim, .dtype = DataType::kBFloat16};
}

TEST(CudaPlan, DefaultsFitEveryHeadDimAndBlockSize) {
  for (int64_t head_dim = 16; head_dim <= 256; head_dim += 8) {
    for (const int64_t value_dim : {int64_t{16}, int64_t{64}, int64_t{128}, int64_t{256}, head_dim}) {
      for (const int64_t block_rows : kBlockRows) {
        SCOPED_TRACE(testing::Message() << head_dim << "/" << value_dim << " in blocks of " << block_rows);
        const CudaPlan sm80 = default_sm80_plan(shape(head_dim, value_dim), block_rows, 4096);
        EXPECT_EQ(refusal(sm80, shape(head_dim, value_dim)), "no error");
        EXPECT_LE(shared_bytes(sm80, shape(head_dim, value_dim)), kPortableSharedBytes);
        if (block_rows > 0) {
          EXPECT_EQ(block_rows % sm80.box_rows, 0) << "a block is made of whole boxes";
        }
        const CudaPlan sm90 = default_sm90_plan(shape(head_dim, value_dim), block_rows, 4096);
        if (block_rows > 0) {
          EXPECT_EQ(block_rows % sm90.box_rows, 0) << "a block is made of whole boxes";
        }
      }
    }
  }
}

TEST(CudaPlan, BoxesArePartsOfBlocksAndTilesUnlessTablesAreLookedUp) {
  EXPECT_EQ(default_sm90_plan(shape(128, 128), 192, 4096).box_rows, 64);
  EXPECT_EQ(default_sm80_plan(shape(256, 256), 64, 4096).box_rows, 32);
  const CudaPlan looked_up = default_sm80_plan(shape(64, 64), 48, 4096);
  EXPECT_EQ(looked_up.row_blocks, 0) << "48 queries neither hold a row nor divide it";
  EXPECT_EQ(looked_up.box_rows, looked_up.tile_k);
}

TEST(CudaPlan, RowsHoldABlockOrWholeBlocksOrLookTablesUp) {
  for (const int64_t dim : {64, 128, 256}) {
    for (int64_t block_rows = 1; block_rows <= 400; ++block_rows) {
      for (const CudaPlan& plan : {default_sm90_plan(shape(dim, dim), block_rows, 4096),
                                   default_sm80_plan(shape(dim, dim), block_rows, 4096)}) {
        SCOPED_TRACE(testing::Message() << print(plan, Direction::kForward) << " for blocks of " << block_rows);
        const int64_t queries = 64 * plan.consumers;
        const bool fits = block_rows % 64 == 0 || block_rows == 8 || block_rows == 16 || block_rows == 32;
        EXPECT_TRUE(!fits || plan.row_blocks > 0);
        EXPECT_TRUE(plan.row_blocks != 1 || block_rows % queries == 0);
        EXPECT_TRUE(plan.row_blocks <= 1 || block_rows * plan.row_blocks == queries);
        EXPECT_EQ(refusal(plan, shape(dim, dim)), "no error");
      }
    }
  }
  EXPECT_THAT(refusal({.row_blocks = 9}, shape(64, 64)), testing::HasSubstr("9 blocks of queries in a row of 128"));
  EXPECT_THAT(refusal({.row_blocks = 3}, shape(64, 64)), testing::HasSubstr("take up to 8 that divide it"));
}

TEST(CudaPlan, SaysWhatItIs) {
  EXPECT_EQ(print(CudaPlan{}, Direction::kForward),
            "128x128 in boxes of 128, 2 consumers, 2+2 stages, ping-pong, 232/40 registers, 1 CTA a multiprocessor");
  EXPECT_EQ(print(default_sm80_plan(shape(128, 128), 0, 4096), Direction::kForward),
            "128x64 in boxes of 64, 8 warps, 1 CTA a multiprocessor");
  EXPECT_EQ(print(default_sm80_plan(shape(64, 64), 0, 4096), Direction::kForward),
            "128x64 in boxes of 64, 4 warps, 2 CTAs a multiprocessor")
      << "long rows: 32 queries of a warp";
  EXPECT_EQ(print(default_sm80_plan(shape(64, 64), 0, 512), Direction::kForward),
            "64x64 in boxes of 64, 4 warps, 3 CTAs a multiprocessor");
  EXPECT_EQ(cuda_threads(CudaPlan{}), 384);
  EXPECT_EQ(cuda_threads(default_sm80_plan(shape(128, 128), 0, 4096)), 256);
}

TEST(CudaPlan, NamesWhatDoesNotFit) {
  const Shape small = shape(64, 64);
  CudaPlan plan = default_sm80_plan(small, 0, 4096);
  plan.stages = 3;
  plan.ctas_per_sm = 1;
  EXPECT_THAT(refusal(plan, small), testing::HasSubstr("3 stages of K and V"));
  plan = default_sm80_plan(small, 0, 4096);
  plan.warp_rows = 24;
  EXPECT_THAT(refusal(plan, small), testing::HasSubstr("24 queries of a warp"));
  plan = default_sm80_plan(small, 0, 4096);
  plan.tile_k = 512;
  plan.box_rows = 64;
  EXPECT_THAT(refusal(plan, small), testing::HasSubstr("exceed the 167936 of a multiprocessor"));
  plan = default_sm80_plan(shape(32, 32), 0, 512);
  plan.tile_k = plan.box_rows = 16;
  plan.ctas_per_sm = 13;
  EXPECT_THAT(refusal(plan, shape(32, 32)), testing::HasSubstr("1664 threads"));
  EXPECT_THAT(refusal(default_sm80_plan(shape(68, 64), 0, 4096), shape(68, 64)),
              testing::HasSubstr("not multiples of 8"));
  plan = {};
  plan.box_rows = 0;
  EXPECT_THAT(refusal(plan, small), testing::HasSubstr("boxes of 0"));
  plan = {};
  plan.consumer_registers = 256;
  EXPECT_THAT(refusal(plan, small), testing::HasSubstr("552 registers"));
}

}  // namespace
}  // namespace harrier
