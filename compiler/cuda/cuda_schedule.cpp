#include "compiler/cuda/cuda_schedule.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/error.h"

namespace harrier {

std::string print(const CudaSchedule& schedule) {
  const std::string heads =
      fmt::format("{} head{} together", schedule.heads_per_group, schedule.heads_per_group == 1 ? "" : "s");
  if (schedule.split_tiles == 0 || schedule.split_capacity == 0) return heads + ", no row split";
  return fmt::format("{}, rows past {} key tiles split into at most {} parts", heads, schedule.split_tiles,
                     schedule.split_capacity);
}

void verify(const CudaSchedule& schedule) {
  if (schedule.heads_per_group < 1) {
    throw InvalidInput(
        fmt::format("a schedule takes {} heads together, the least is 1: raise it", schedule.heads_per_group));
  }
  if (schedule.split_tiles < 0 || schedule.split_capacity < 0) {
    throw InvalidInput(fmt::format("a schedule splits past {} tiles into {} parts, the least is 0: raise them",
                                   schedule.split_tiles, schedule.split_capacity));
  }
}

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
