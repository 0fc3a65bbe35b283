// The emitted row function called directly, below the compiler: what it reads, what it writes, how far its offsets
// reach.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <vector>

#include "codegen/cpu/emit_attention.h"
#include "ir/error.h"
#include "ir/launch.h"
#include "runtime/cpu/cpu_jit.h"
#include "runtime/cpu/cpu_target.h"

namespace harrier {
namespace {

constexpr int64_t kDims = 16;

CpuKernelSource source_of(const LoweredPattern& lowered, const CpuTarget& target) {
  return {.lowered = lowered,
          .shape = {.heads = 1, .kv_heads = 1, .head_dim = kDims, .value_dim = kDims},
          .plan = {.tile_q = target.vector_lanes,
                   .tile_k = 8,
                   .vector_lanes = target.vector_lanes,
                   .q_vectors = 1,
                   .key_block = 4,
                   .value_block = 4}};
}

/// Keeps the code that it calls alive.
using RowFunction = std::function<void(const RowArguments&)>;

RowFunction function_of(const CpuKernelSource& source, const CpuTarget& target) {
  const CpuModule module = jit_compile(emit_attention(source, target), target);
  const auto function = module.function<CpuRowFunction>(kCpuRowFunctionName);
  return [module, function](const RowArguments& arguments) { function(&arguments); };
}

/// With one key, O is V whatever the score, and LSE is the score itself: a probe for any expression.
class ScoreProbe {
 public:
  explicit ScoreProbe(const Expression& score) {
    const CpuTarget target = host_cpu_target();
    LoweredPattern lowered;
    lowered.score = score;
    const CpuKernelSource source = source_of(lowered, target);
    function_ = function_of(source, target);
    scratch_.resize(static_cast<size_t>(scratch_floats(source)) + 16);
  }

  /// The score of a pair whose q . k is `dot`.
  float operator()(float dot) {
    std::vector<float> q(kDims, 0.0F);
    std::vector<float> k(kDims, 0.0F);
    q[3] = dot;
    k[3] = 1.0F;
    std::vector<float> v(kDims, 2.0F);
    std::vector<float> out(kDims);
    float lse = 0;
    const KeyRun run{.begin = 0, .end = 1, .count = 1, .table_counts = 0, .score_add = 0, .count_only = 0};
    function_({.q = q.data(),
               .k = k.data(),
               .v = v.data(),
               .out = out.data(),
               .lse = &lse,
               .q_stride = kDims,
               .k_stride = kDims,
               .v_stride = kDims,
               .out_stride = kDims,
               .lse_stride = 1,
               .query_token = 0,
               .key_token = 0,
               .batch = 0,
               .head = 0,
               .query_begin = 0,
               .query_count = 1,
               .query_length = 1,
               .key_length = 1,
               .runs = &run,
               .run_count = 1,
               .arrays = nullptr,
               .int_parameters = nullptr,
               .float_parameters = nullptr,
               .scratch = scratch_.data()});
    return lse;
  }

 private:
  RowFunction function_;
  std::vector<float> scratch_;
};

TEST(RowFunction, ComputesElementaryFunctionsToAFewUnits) {
  using namespace var;
  ScoreProbe tanh_probe(unary(UnaryKind::kTanh, s()));
  ScoreProbe exp_probe(unary(UnaryKind::kExp, s()));
  ScoreProbe log_probe(unary(UnaryKind::kLog, s()));
  ScoreProbe sqrt_probe(unary(UnaryKind::kSqrt, s()));
  for (double x = -9.0; x <= 9.0; x += 0.01) {
    const auto input = static_cast<float>(x);
    EXPECT_NEAR(tanh_probe(input), std::tanh(static_cast<double>(input)), 4e-7) << input;
    const double exponential = std::exp(static_cast<double>(input));
    EXPECT_NEAR(exp_probe(input), exponential, 2e-6 * std::max(1.0, exponential)) << input;
    if (input <= 0) continue;
    const double logarithm = std::log(static_cast<double>(input));
    EXPECT_NEAR(log_probe(input), logarithm, 1e-6 * std::max(1.0, std::abs(logarithm))) << input;
    EXPECT_NEAR(sqrt_probe(input), std::sqrt(static_cast<double>(input)), 2e-6) << input;
  }
}

TEST(RowFunction, DividesLikeTheLanguageSays) {
  // The divisor holds q, which is 0 here, so that it is no literal and the general path runs.
  // parameters.
  const auto quotient = [](int64_t left, int64_t right) {
    return ScoreProbe(constant(1.0) * (constant(left) / (constant(right) + var::q())))(0.0F);
  };
  const auto remainder = [](int64_t left, int64_t right) {
    return ScoreProbe(constant(1.0) * (constant(left) % (constant(right) + var::q())))(0.0F);
  };
  EXPECT_EQ(quotient(7, 2), 3.0F);
  EXPECT_EQ(quotient(-7, 2), -4.0F);
  EXPECT_EQ(quotient(7, -2), -4.0F);
  EXPECT_EQ(quotient(7, 0), 0.0F);
  EXPECT_EQ(remainder(-7, 2), 1.0F);
  EXPECT_EQ(remainder(-1, 4), 3.0F);
  EXPECT_EQ(remainder(5, 0), 0.0F);
  EXPECT_NEAR(quotient(std::numeric_limits<int32_t>::min(), -1), -2147483648.0F, 256.0F);
}

/// Memory that is reserved and zero, but backed only where it is touched.
class SparseFloats {
 public:
  explicit SparseFloats(int64_t count) : bytes_(static_cast<size_t>(count) * sizeof(float)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  SparseFloats(const SparseFloats&) = delete;
  SparseFloats& operator=(const SparseFloats&) = delete;
  ~SparseFloats() {
    if (mapped()) munmap(data_, bytes_);
  }
  bool mapped() const { return data_ != MAP_FAILED; }
  float* data() { return static_cast<float*>(data_); }

 private:
  size_t bytes_;
  void* data_;
};

TEST(RowFunction, ReachesElementsBeyond32BitOffsets) {
  // Eight tokens 2^29 elements apart: the last one starts at element 3.7e9, byte 1.5e10.
  constexpr int64_t kTokens = 8;
  constexpr int64_t kStride = int64_t{1} << 29;
  SparseFloats q(kTokens * kStride);
  SparseFloats k(kTokens * kStride);
  SparseFloats v(kTokens * kStride);
  SparseFloats out(kTokens * kStride);
  SparseFloats bias(kTokens * kStride);
  if (!q.mapped() || !k.mapped() || !v.mapped() || !out.mapped() || !bias.mapped()) {
    GTEST_SKIP() << "the system does not reserve 16 GiB of address space";
  }
  for (int64_t token = 0; token < kTokens; ++token) {
    v.data()[token * kStride] = static_cast<float>(token + 1);
    // Query i is told by its bias to look at key 7 - i alone.
    for (int64_t key = 0; key < kTokens; ++key) bias.data()[token * kStride + key] = key == 7 - token ? 0.0F : -1000.0F;
  }
  const CpuTarget target = host_cpu_target();
  LoweredPattern lowered;
  lowered.score = var::s() + load("bias", {var::q(), var::k()}, true);
  lowered.arrays = {{.name = "bias", .element = ArraySlot::Element::kFloat32, .rank = 2}};
  CpuKernelSource source = source_of(lowered, target);
  source.plan.tile_q = 8;
  source.plan.q_vectors = 1;
  if (target.vector_lanes == 4) source.plan.q_vectors = 2;
  const RowFunction function = function_of(source, target);
  std::vector<float> scratch(static_cast<size_t>(scratch_floats(source)));
  const KeyRun run{.begin = 0, .end = kTokens, .count = 1, .table_counts = 0, .score_add = 0, .count_only = 0};
  const BoundArray array{.data = bias.data(), .strides = {kStride, 1, 0, 0}};
  function({.q = q.data(),
            .k = k.data(),
            .v = v.data(),
            .out = out.data(),
            .lse = nullptr,
            .q_stride = kStride,
            .k_stride = kStride,
            .v_stride = kStride,
            .out_stride = kStride,
            .lse_stride = 0,
            .query_token = 0,
            .key_token = 0,
            .batch = 0,
            .head = 0,
            .query_begin = 0,
            .query_count = kTokens,
            .query_length = kTokens,
            .key_length = kTokens,
            .runs = &run,
            .run_count = 1,
            .arrays = &array,
            .int_parameters = nullptr,
            .float_parameters = nullptr,
            .scratch = scratch.data()});
  for (int64_t token = 0; token < kTokens; ++token) {
    EXPECT_NEAR(out.data()[token * kStride], static_cast<float>(8 - token), 1e-5) << "query " << token;
  }
}

TEST(RowFunction, IsTheSameTextForTheSameSource) {
  const CpuTarget target = host_cpu_target();
  LoweredPattern lowered;
  lowered.score = var::s() * Expression{Parameter{0, true}};
  lowered.visible = var::k() <= var::q();
  lowered.float_values = {0.25};
  const CpuKernelSource source = source_of(lowered, target);
  EXPECT_EQ(emit_attention_text(source, target), emit_attention_text(source, target));
}

TEST(RowFunction, RefusesAPlanThatBreaksItsLimits) {
  const CpuTarget target = host_cpu_target();
  LoweredPattern lowered;
  lowered.score = var::s();
  CpuKernelSource source = source_of(lowered, target);
  source.plan.value_block = 5;
  EXPECT_THROW(emit_attention(source, target), InternalError);
}

}  // namespace
}  // namespace harrier
