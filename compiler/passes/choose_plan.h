// The default plan of a workload on a CPU.
#pragma once

#include "ir/plan.h"
#include "ir/workload.h"

namespace harrier {

/// Greatest common divisor of all block sizes of a mask; 0 without blocks.
int64_t common_block(const Mask& mask);

/// tile_q and tile_k divide every block size of the mask, so that a block table is uniform over a tile; register blocks
/// fit the target's vector registers.
CpuPlan choose_cpu_plan(const Workload& workload, const CpuTarget& target);

}  // namespace harrier
