// The same results whatever vector unit the code is made for: narrower widths run on any host, as AVX2 and NEON
// machines would see them.
#include <gtest/gtest.h>

#include "support/attention_case.h"

namespace harrier {
namespace {

TEST(VectorWidth, EveryWidthUpToTheHostsMatchesTheOracle) {
  Workload workload{.name = "widths",
                    .shape = {.heads = 2, .kv_heads = 1, .head_dim = 24, .value_dim = 40, .dtype = DataType::kBFloat16},
                    .pattern = {.mask = (window(33, 4) & causal()) | sink(3)},
                    .lengths = FixedLength{64}};
  workload.pattern.score.softcap = 2.0;
  const int host_lanes = compile(workload).compilation().target.vector_lanes;
  for (const auto& [lanes, registers] : {std::pair{4, 16}, {4, 32}, {8, 16}, {16, 32}}) {
    if (lanes > host_lanes) continue;
    CompileOptions options;
    options.target = compile(workload).compilation().target;
    options.target.vector_lanes = lanes;
    options.target.vector_registers = registers;
    const AttentionCase test{workload, packed_geometry({0, 150, 9}, {0, 150, 9}), LayoutKind::kPacked, 5};
    SCOPED_TRACE(std::to_string(lanes) + " lanes\n" + describe(test));
    const AttentionErrors errors = run_case(test, compile(workload, options));
    EXPECT_LE(errors.out, tolerance_of(workload.shape.dtype));
    EXPECT_LE(errors.lse, 2e-5);
    EXPECT_TRUE(errors.canaries_intact);
  }
}

TEST(VectorWidth, ResultsDoNotDependOnTheNumberOfThreads) {
  const Workload workload{.name = "threads",
                          .shape = {.heads = 3, .kv_heads = 3, .head_dim = 32, .value_dim = 32},
                          .pattern = {.mask = window(50, 50)},
                          .lengths = FixedLength{64}};
  const AttentionCase test{workload, packed_geometry({300, 20}, {300, 20}), LayoutKind::kPacked, 9};
  for (const int threads : {1, 2, 5}) {
    CompileOptions options;
    options.threads = threads;
    const AttentionErrors errors = run_case(test, compile(workload, options));
    EXPECT_LE(errors.out, 2e-5) << threads << " threads";
  }
}

}  // namespace
}  // namespace harrier
