#include "compiler/cuda/cuda_schedule.h"

#include <algorithm>

namespace harrier {

CudaSchedule choose_cuda_schedule(const Shape& shape, const Geometry& geometry, int64_t ctas, int64_t l2_bytes) {
  constexpr int64_t kBytesPerElement = 2;
  constexpr int64_t kPartsPerCta = 4;
  const int64_t bytes_of_kv_head = geometry.key_tokens * (shape.head_dim + shape.value_dim) * kBytesPerElement;
  const int64_t heads_per_kv_head = shape.heads / shape.kv_heads;
  // A third of L2 is left to Q, O and lists.
  const int64_t kv_heads = std::max<int64_t>(1, l2_bytes * 2 / 3 / std::max<int64_t>(bytes_of_kv_head, 1));
  CudaSchedule schedule;
  schedule.heads_per_group = static_cast<int>(std::min(kv_heads, shape.kv_heads) * heads_per_kv_head);
  schedule.split_capacity = static_cast<int>(kPartsPerCta * ctas);
  return schedule;
}

}  // namespace harrier
