#include "ir/plan.h"

#include <fmt/format.h>

namespace harrier {

std::string print(const CpuPlan& plan) {
  return fmt::format("tile {}x{}, {} lanes, blocks {}x{} and {}x{}", plan.tile_q, plan.tile_k, plan.vector_lanes,
                     plan.q_vectors, plan.key_block, plan.q_vectors, plan.value_block);
}

}  // namespace harrier
