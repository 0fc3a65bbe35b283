#include "ir/cuda_schedule.h"

#include <fmt/format.h>

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

}  // namespace harrier
