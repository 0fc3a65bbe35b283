// Every backward plan that tuning may choose computes right gradients.
#include "compiler/cuda/plan_space.h"

#include <gtest/gtest.h>

#include "test_gpu.h"

namespace harrier {
namespace {

using test::Kernels;

struct SpaceCase {
  Mask mask;
  int64_t head_dim;
};

void expect_every_plan_is_right(Kernels kernels) {
  const std::vector<SpaceCase> cases = {{causal(), 64}, {blocks(64, "table") | sink(3), 64}, {window(40, 20), 128}};
  const std::string architecture = test::architecture_of(kernels);
  for (const SpaceCase& each : cases) {
    Workload workload = test::workload_of(each.mask, test::shape_of(2, 1, each.head_dim));
    Workload backward = workload;
    backward.shape.direction = Direction::kBackward;
    const std::vector<CudaPlan> plans = plan_space(backward, family_of(architecture));
    EXPECT_GT(plans.size(), 4);
    for (size_t i = test::is_thorough() ? 0 : 1; i < plans.size(); ++i) {
      test::expect_gradients_match_the_oracle({workload, packed_geometry({130, 70}, {130, 70}), LayoutKind::kPacked, 5},
                                              kernels, {.plan = plans[i]});
      if (!test::is_thorough()) return;  // one that is not the default
    }
  }
}

TEST(BackwardPlanSpace, HoldsPlansThatAreRightOnTheGpusOwnFamily) { expect_every_plan_is_right(Kernels::kOwn); }

TEST(BackwardPlanSpace, HoldsPlansThatAreRightOnThePortableFamily) { expect_every_plan_is_right(Kernels::kPortable); }

}  // namespace
}  // namespace harrier
