// Documents whose ids lie side by side become intervals that are read from arrays.
#include <gtest/gtest.h>

#include "codegen/cuda/emit_builder.h"
#include "codegen/cuda/emit_stub.h"
#include "codegen/cuda/key_intervals.h"
#include "codegen/cuda/segment_bounds.h"
#include "cuda_patterns.h"
#include "ir/text.h"
#include "nvrtc.h"

namespace harrier {
namespace {

/// documents(@segment), as lower_pattern writes it.
Expression documents() {
  const Expression position = binary(BinaryKind::kMax, test::aligned_query(), constant(int64_t{0}));
  const Expression of_query = load("segment", {var::k_token() - var::k() + position});
  return test::aligned_query() >= constant(int64_t{0}) && equal(of_query, load("segment", {var::k_token()}));
}

LoweredPattern pattern_of(Expression visible) {
  LoweredPattern lowered = test::pattern(std::move(visible), {0});
  lowered.arrays = {{"segment", ArraySlot::Element::kInt32, 1}};
  return lowered;
}

TEST(CudaSegmentBounds, MakeDocumentsOneInterval) {
  EXPECT_FALSE(key_intervals(documents()).exact);
  const LoweredPattern bounded = bound_segments(pattern_of(documents()));
  const KeyIntervals keys = key_intervals(bounded.visible);
  EXPECT_TRUE(keys.exact) << print(*bounded.visible);
  ASSERT_EQ(keys.intervals.size(), 1u);
  EXPECT_EQ(keys.intervals[0].key_lower.size(), 1u);
  EXPECT_EQ(keys.intervals[0].key_upper.size(), 1u);
  ASSERT_EQ(bounded.arrays.size(), 3u);
  EXPECT_EQ(bounded.arrays[1].name, "segment.begin");
  EXPECT_EQ(bounded.arrays[2].name, "segment.end");
  EXPECT_EQ(key_source_of(pattern_of(documents())), CudaKeySource::kLists);
  EXPECT_EQ(key_source_of(bounded), CudaKeySource::kClosedForm);
}

TEST(CudaSegmentBounds, GoTogetherWithOtherIntervals) {
  const LoweredPattern bounded = bound_segments(pattern_of((documents() && test::causal()) || documents()));
  EXPECT_EQ(bounded.arrays.size(), 3u) << "the same segments need their arrays once";
  EXPECT_TRUE(key_intervals(bounded.visible).exact);
}

TEST(CudaSegmentBounds, FallWhereTheyAreSubtracted) {
  const Expression end = load("segment.end", {var::k_token()});
  EXPECT_FALSE(key_intervals(var::k() < constant(int64_t{9}) - end).exact) << "this bound falls";
  EXPECT_FALSE(key_intervals(var::q() < end).exact) << "this says nothing about keys";
}

TEST(CudaSegmentBounds, LeaveOtherComparisonsAlone) {
  const LoweredPattern other =
      pattern_of(equal(load("segment", {var::q()}), load("segment", {var::k()})) && test::causal());
  EXPECT_EQ(bound_segments(other), other);
  EXPECT_EQ(bound_segments(test::pattern(std::nullopt)), test::pattern(std::nullopt));
}

TEST(CudaSegmentBounds, CompileWithoutSpillsOrSerialisedProducts) {
  const LoweredPattern bounded = bound_segments(pattern_of(documents() && test::causal()));
  for (const int64_t dim : {64, 128}) {
    const Shape shape = test::shape(dim, dim);
    const auto kernel =
        test::compile_with_nvrtc(emit_cuda_stub(bounded, shape, default_sm90_plan(shape, 0, 4096)), "sm_90a");
    if (!kernel) GTEST_SKIP() << "no libnvrtc on this machine";
    ASSERT_TRUE(kernel->compiled) << kernel->log;
    EXPECT_EQ(test::complaints(kernel->log), "");
  }
  const Shape shape = test::shape(64, 64);
  const auto builder =
      test::compile_with_nvrtc(emit_cuda_builder(bounded, shape, default_sm90_plan(shape, 0, 4096)), "sm_80");
  ASSERT_TRUE(builder && builder->compiled) << builder->log;
  EXPECT_EQ(test::complaints(builder->log), "");
}

}  // namespace
}  // namespace harrier
