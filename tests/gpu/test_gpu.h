// The GPU that tests run on: the emulated one, or a real one where HARRIER_TEST_GPU=real.
#pragma once

#include "compiler/harrier_cuda.h"
#include "support/attention_case.h"
#include "support/backward_case.h"

namespace harrier::test {

/// Opened once a process.
const Gpu& gpu();

bool is_emulated();

/// Every case, not a choice of them: on a real GPU, or where HARRIER_TEST_THOROUGH is set. The emulated GPU takes a
/// second to compile each.
bool is_thorough();

/// Which kernels: those of the GPU itself, or those of sm_80's family, which run on every GPU.
enum class Kernels { kOwn, kPortable };
std::string architecture_of(Kernels kernels);

/// Compiles the case (remembering code by structure), runs it on arrays of the host and compares it with the oracle in
/// double precision. O to what 16-bit probabilities and outputs cost, LSE to 2e-3; nothing else may be written.
void expect_matches_oracle(const AttentionCase& test, Kernels kernels, const CudaCompileOptions& options = {});

/// The same under a schedule that must split some row.
void expect_split_rows_match_the_oracle(const AttentionCase& test, const CudaSchedule& schedule, Kernels kernels);

/// Gradients of the same case with direction backward, from the oracle's O and LSE, as tests/numerics compares them: to
/// twice backward_tolerance_of, and exactly 0 where nothing is seen. Returns all bits that were written.
std::vector<uint8_t> expect_gradients_match_the_oracle(const AttentionCase& test, Kernels kernels,
                                                       const CudaCompileOptions& options = {},
                                                       const std::optional<CudaSchedule>& schedule = {});

/// The case's kernel. NVRTC's log is a failure's message.
CudaKernel compile_for(const AttentionCase& test, Kernels kernels, CudaCompileOptions options = {});

/// The errors of a case, as expect_gradients_match_the_oracle takes them.
void expect_gradients_are_right(const AttentionCase& test, const BackwardErrors& errors);

/// A workload of a mask; the dtype is bf16 unless the shape says fp16.
Workload workload_of(Mask mask, Shape shape);

/// heads, kv_heads, head_dim, value_dim (0: as head_dim).
Shape shape_of(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t value_dim = 0);

}  // namespace harrier::test
