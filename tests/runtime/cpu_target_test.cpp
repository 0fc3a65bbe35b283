#include "runtime/cpu/cpu_target.h"

#include <gtest/gtest.h>

namespace harrier {
namespace {

TEST(CpuTarget, DescribesTheHostTheSameEachTime) {
  const CpuTarget target = host_cpu_target();
  EXPECT_FALSE(target.triple.empty());
  EXPECT_FALSE(target.cpu.empty());
  EXPECT_TRUE(target.vector_lanes == 4 || target.vector_lanes == 8 || target.vector_lanes == 16);
  EXPECT_TRUE(target.vector_registers == 16 || target.vector_registers == 32);
  EXPECT_GE(target.cores, 1);
  EXPECT_EQ(target, host_cpu_target());
}

}  // namespace
}  // namespace harrier
