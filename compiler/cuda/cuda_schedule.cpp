#include "compiler/cuda/cuda_schedule.h"

#include <algorithm>

namespace harrier {
namespace {

constexpr int64_t kBytesPerElement = 2;

/// Key heads that L2 has room for, given what their rows read again and again: K and V, a third of L2 being left to Q,
/// O and lists.
int64_t forward_heads(const Shape& shape, const Geometry& geometry, int64_t l2_bytes) {
  const int64_t bytes_of_kv_head = geometry.key_tokens * (shape.head_dim + shape.value_dim) * kBytesPerElement;
  return l2_bytes * 2 / 3 / std::max<int64_t>(bytes_of_kv_head, 1);
}

/// Likewise given what their columns do: Q and dO of the query heads, and dQ, which they add to in fp32, half of L2
/// being left to what is read and written once. But a group has some columns for every CTA: with fewer, long ones start
/// late. More of these in closed form, where CTAs that run together pass the same queries of all heads, so that heads
/// cost little L2; columns of lists have queries anywhere.
int64_t backward_heads(const Shape& shape, const Geometry& geometry, const ScheduleFacts& facts) {
  constexpr int64_t kBytesPerSum = 4;
  const int64_t columns_per_cta = facts.has_lists ? 2 : 4;
  const int64_t bytes_of_query = (shape.head_dim + shape.value_dim) * kBytesPerElement + shape.head_dim * kBytesPerSum;
  const int64_t bytes_of_kv_head = geometry.query_tokens * bytes_of_query * (shape.heads / shape.kv_heads);
  const int64_t columns_of_head = std::max<int64_t>(geometry.key_tokens / facts.tile_k, 1);
  return std::max(facts.l2_bytes / 2 / std::max<int64_t>(bytes_of_kv_head, 1),
                  columns_per_cta * facts.ctas / columns_of_head);
}

}  // namespace

CudaSchedule choose_cuda_schedule(const Shape& shape, const Geometry& geometry, const ScheduleFacts& facts) {
  constexpr int64_t kPartsPerCta = 4;
  const int64_t kv_heads = shape.direction == Direction::kBackward ? backward_heads(shape, geometry, facts)
                                                                   : forward_heads(shape, geometry, facts.l2_bytes);
  CudaSchedule schedule;
  schedule.heads_per_group =
      static_cast<int>(std::clamp<int64_t>(kv_heads, 1, shape.kv_heads) * (shape.heads / shape.kv_heads));
  schedule.split_capacity = static_cast<int>(kPartsPerCta * facts.ctas);
  return schedule;
}

}  // namespace harrier
