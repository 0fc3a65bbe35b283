// What a backward call refuses before it writes anything, and which views it takes to lie on each other.
#include "compiler/check_gradients.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <random>
#include <set>

#include "ir/error.h"
#include "ir/text.h"

namespace harrier {
namespace {

using testing::HasSubstr;

/// Memory of which only addresses count.
alignas(64) std::array<float, 1 << 16> memory;

TensorView tensor(int64_t offset, std::vector<int64_t> shape, std::vector<int64_t> strides = {}) {
  return {.data = memory.data() + offset,
          .dtype = DataType::kFloat32,
          .shape = std::move(shape),
          .strides = std::move(strides)};
}

/// A packed call of 10 tokens, two heads of 16, everything in memory of its own.
struct Call {
  Pattern pattern = parse_workload("attention a { mask blocks(8, @table) score alibi(@slopes) bias(@bias) }").pattern;
  std::array<float, 2> slopes{};
  std::array<float, 100> bias{};
  std::array<int32_t, 4> table{};
  AttentionTensors tensors;
  AttentionGradients gradients;
  Bindings bindings;

  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  Call() {
    auto next = [at = int64_t{0}]() mutable { return tensor(at++ * 400, {10, 2, 16}); };
    tensors.q = next();
    tensors.k = next();
    tensors.v = next();
    tensors.out = next();
    tensors.lse = tensor(8000, {10, 2});
    tensors.cu_seqlens = {0, 10};
    gradients = {.d_out = next(), .d_q = next(), .d_k = next(), .d_v = next(), .arrays = {}};
    bindings["slopes"] = {.data = slopes.data(), .type = ElementType::kFloat32, .shape = {2}};
    bindings["bias"] = {.data = bias.data(), .type = ElementType::kFloat32, .shape = {10, 10}};
    bindings["table"] = {.data = table.data(), .type = ElementType::kInt32, .shape = {2, 2}};
    gradients.arrays["bias"] = tensor(9000, {10, 10});
  }

  std::string refusal() const {
    try {
      check_gradients(gradients, tensors, pattern, bindings);
    } catch (const InvalidInput& error) {
      EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
      return error.what();
    }
    return "";
  }
};

/// What is said of a call that is in place but for one change.
std::string refusal_after(const std::function<void(Call&)>& change) {
  Call call;
  change(call);
  return call.refusal();
}

TEST(CheckGradients, TakesACallWhereEverythingIsInPlace) { EXPECT_EQ(Call().refusal(), ""); }

TEST(CheckGradients, RefusesWhatIsMissing) {
  EXPECT_EQ(refusal_after([](Call& call) { call.tensors.lse = {}; }),
            "lse is missing; a backward call needs the one that the forward call wrote");
  EXPECT_EQ(refusal_after([](Call& call) { call.gradients.d_k = {}; }),
            "d_k has shape [], expected [10, 2, 16] ([tokens, heads, dim])");
  EXPECT_EQ(refusal_after([](Call& call) { call.gradients.d_v.data = nullptr; }),
            "d_v has shape [10, 2, 16] but no data; give it memory");
  EXPECT_THAT(refusal_after([](Call& call) { call.gradients.d_out.dtype = DataType::kBFloat16; }),
              HasSubstr("d_out holds bf16, the pattern expects fp32"));
}

TEST(CheckGradients, RefusesGradientsOfArraysThatHaveNone) {
  EXPECT_EQ(refusal_after([](Call& call) { call.gradients.arrays["table"] = tensor(10000, {2, 2}); }),
            "@table (block table) has no gradient: only floats that scores or the softmax read have one; leave it out");
  EXPECT_EQ(refusal_after([](Call& call) { call.gradients.arrays["slops"] = tensor(10000, {2}); }),
            "a gradient of @slops is asked for, but the pattern names no such array (did you mean @slopes?); leave it "
            "out");
  EXPECT_EQ(refusal_after([](Call& call) { call.gradients.arrays["slopes"] = tensor(10000, {3}); }),
            "the gradient of @slopes has shape [3], expected [2] (the array's shape)");
  EXPECT_THAT(refusal_after([](Call& call) { call.gradients.arrays["bias"] = tensor(9000, {10, 10}, {1, 10}); }),
              HasSubstr("make it dense"));
}

TEST(CheckGradients, RefusesGradientsOnOtherMemory) {
  EXPECT_EQ(refusal_after([](Call& call) { call.gradients.d_q = call.tensors.q; }),
            "d_q lies on the memory of q; it is written, so give it memory of its own");
  EXPECT_EQ(
      refusal_after([](Call& call) { call.gradients.d_v.data = static_cast<float*>(call.gradients.d_k.data) + 7; }),
      "d_v lies on the memory of d_k; it is written, so give it memory of its own");
  EXPECT_THAT(refusal_after([](Call& call) { call.gradients.arrays["bias"].data = call.bias.data(); }),
              HasSubstr("the gradient of @bias lies on the memory of @bias"));
}

TEST(CheckGradients, TakesGradientsThatAreInterleavedInOneTensor) {
  // [tokens, 3, heads, dim] and [tokens, heads, 3, dim]: what a fused projection of Q, K and V has.
  for (const auto& [step, head_stride] : {std::pair<int64_t, int64_t>{32, 16}, {16, 48}}) {
    Call call;
    TensorView* views[] = {&call.gradients.d_q, &call.gradients.d_k, &call.gradients.d_v};
    for (int64_t i = 0; i < 3; ++i) *views[i] = tensor(20000 + i * step, {10, 2, 16}, {96, head_stride, 1});
    EXPECT_EQ(call.refusal(), "");
    call.gradients.d_v.data = static_cast<float*>(call.gradients.d_v.data) - 8;
    EXPECT_THAT(call.refusal(), HasSubstr("d_v lies on the memory of d_k"));
  }
}

TEST(CheckGradients, NeverTakesViewsApartThatMeet) {
  std::mt19937_64 random(5);
  SCOPED_TRACE("seed 5");
  const auto pick = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  const auto elements = [](const TensorView& view) {
    std::set<const float*> seen;
    for (int64_t i = 0; i < view.shape[0]; ++i) {
      for (int64_t j = 0; j < view.shape[1]; ++j) {
        for (int64_t k = 0; k < view.shape[2]; ++k) {
          seen.insert(static_cast<const float*>(view.data) + i * view.strides[0] + j * view.strides[1] + k);
        }
      }
    }
    return seen;
  };
  int apart = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::vector<int64_t> strides{pick(1, 40), pick(1, 12), 1};
    const std::vector<int64_t> other = pick(0, 3) == 0 ? std::vector<int64_t>{pick(1, 40), pick(1, 12), 1} : strides;
    const TensorView left = tensor(200 + pick(0, 60), {pick(1, 4), pick(1, 3), pick(1, 5)}, strides);
    const TensorView right = tensor(200 + pick(0, 60), {pick(1, 4), pick(1, 3), pick(1, 5)}, other);
    if (may_share_memory(left, right)) continue;
    ++apart;
    for (const float* element : elements(left)) ASSERT_FALSE(elements(right).contains(element)) << "case " << i;
  }
  EXPECT_GT(apart, 500) << "too few are told apart for the check to mean something";
}

}  // namespace
}  // namespace harrier
