#include "compiler/cuda/choose_cuda_plan.h"

#include <algorithm>

#include "compiler/passes/choose_plan.h"
#include "ir/cuda_backward_plan.h"
#include "ir/match.h"

namespace harrier {
namespace {

/// left + right + 1 keys, as far as there are so many.
int64_t window_keys(int64_t left, int64_t right, int64_t length) {
  const int64_t before = std::min(left, length);
  const int64_t after = std::min(right, length);
  // An open side sees half of the keys on average.
  const auto side = [&](int64_t keys) { return keys >= length ? length / 2 : keys; };
  return std::min(length, side(before) + side(after) + 1);
}

CudaPlan default_plan(const Shape& shape, CudaFamily family, int64_t block_rows, int64_t keys_per_query) {
  if (shape.direction == Direction::kBackward) {
    return family == CudaFamily::kSm90 ? default_sm90_backward_plan(shape, block_rows, keys_per_query)
                                       : default_sm80_backward_plan(shape, block_rows, keys_per_query);
  }
  return family == CudaFamily::kSm90 ? default_sm90_plan(shape, block_rows, keys_per_query)
                                     : default_sm80_plan(shape, block_rows, keys_per_query);
}

}  // namespace

int64_t expected_keys_per_query(const Mask& mask, int64_t length) {
  constexpr int64_t kUsualListShare = 10;  // block lists and bits name a tenth of the keys, say
  constexpr int64_t kUsualDocuments = 8;
  return match(
      mask.node, [&](const All&) { return length; }, [](const None&) { return int64_t{0}; },
      [&](const Causal&) { return length / 2; },
      [&](const Window& atom) { return window_keys(atom.left, atom.right, length); },
      [&](const Dilated& atom) { return window_keys(atom.left, atom.right, length) / std::max<int64_t>(atom.step, 1); },
      [&](const Sink& atom) { return std::min(atom.count, length); },
      [&](const Global& atom) { return std::min(atom.tokens.empty() ? atom.count : length / 64, length); },
      [&](const Documents&) { return length / kUsualDocuments; },
      [&](const Blocks&) { return length / kUsualListShare; },
      [&](const BigBird& atom) { return std::min(length, atom.block * (5 + atom.random)); },
      [&](const Bits&) { return length / kUsualListShare; }, [&](const Where&) { return length / 2; },
      [&](const And& node) {
        int64_t keys = length;
        for (const Mask& operand : node.operands) keys = std::min(keys, expected_keys_per_query(operand, length));
        return keys;
      },
      [&](const Or& node) {
        int64_t keys = 0;
        for (const Mask& operand : node.operands) keys += expected_keys_per_query(operand, length);
        return std::min(keys, length);
      },
      [&](const Not& node) { return length - expected_keys_per_query(*node.operand, length); });
}

CudaPlan choose_cuda_plan(const Workload& workload, CudaFamily family) {
  const int64_t block = common_block(workload.pattern.mask);
  const int64_t keys = expected_keys_per_query(workload.pattern.mask, quantile(workload.lengths, 0.5));
  CudaPlan plan = default_plan(workload.shape, family, block, keys);
  // Folding moves the scale behind the maximum, which only a positive one leaves where it is.
  plan.fold_scale = !workload.pattern.score.scale || *workload.pattern.score.scale > 0;
  // Slopes of pairs take registers, of which the kernels of sm_90a have none left.
  const Score& score = workload.pattern.score;
  const bool has_slopes =
      score.softcap || !score.alibi.empty() || !score.bias.empty() || score.expression || !plan.fold_scale;
  if (workload.shape.direction == Direction::kBackward && family == CudaFamily::kSm90) {
    if (has_slopes) plan = roomier_backward_plan(plan).value_or(plan);
    plan.deterministic = workload.shape.deterministic;
  }
  verify(plan, workload.shape);
  return plan;
}

}  // namespace harrier
