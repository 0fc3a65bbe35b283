#include "compiler/cuda/plan_space.h"

#include <algorithm>

#include "compiler/cuda/choose_cuda_plan.h"
#include "compiler/passes/choose_plan.h"
#include "ir/error.h"

namespace harrier {
namespace {

/// What differs from plan to plan on sm_90a; registers follow.
struct Variant {
  int consumers;
  int tile_k;
  int stages;
  int query_stages;
  int ctas_per_sm;
  int consumer_registers;
  int producer_registers;
};

constexpr Variant kVariants[] = {
    {2, 128, 2, 2, 1, 232, 40}, {2, 128, 2, 1, 1, 232, 40}, {2, 128, 3, 2, 1, 232, 40}, {2, 64, 4, 2, 1, 232, 40},
    {2, 96, 3, 2, 1, 232, 40},  {2, 176, 2, 1, 1, 232, 40}, {2, 96, 2, 1, 1, 232, 40},  {2, 80, 2, 1, 1, 232, 40},
    {3, 128, 3, 2, 1, 160, 32}, {3, 128, 2, 2, 1, 160, 32}, {3, 96, 2, 2, 1, 160, 32},  {1, 64, 2, 2, 2, 208, 40},
    {1, 64, 3, 2, 2, 208, 40},  {1, 128, 2, 2, 2, 208, 40}, {1, 64, 3, 2, 3, 120, 40},  {1, 64, 2, 2, 3, 120, 40},
    {1, 64, 3, 1, 3, 120, 40},  {1, 128, 2, 1, 2, 208, 40}, {1, 64, 4, 2, 2, 208, 40},
};

/// The same on sm_80. 32 queries of a warp halve what is read of shared memory and double the registers.
struct PortableVariant {
  int consumers;
  int warp_rows;
  int tile_k;
  int ctas_per_sm;
};

constexpr PortableVariant kPortableVariants[] = {
    {1, 16, 64, 4}, {1, 16, 64, 3}, {1, 16, 64, 2}, {1, 16, 32, 4}, {1, 16, 32, 3}, {1, 16, 128, 2},
    {2, 16, 64, 2}, {2, 16, 64, 1}, {2, 16, 32, 2}, {2, 32, 64, 2}, {2, 32, 64, 1}, {2, 32, 32, 2},
};

/// Of backward kernels on sm_90a. dK and dV leave no registers for a third warpgroup, nor for columns of 128 keys twice
/// on a multiprocessor. Producers that walk several intervals need more of them than those that read lists.
struct BackwardVariant {
  int consumers;
  int tile_k;
  int stages;
  int ctas_per_sm;
  int consumer_registers = 0;  // sm_80's family leaves registers to the compiler
  int producer_registers = 0;
};

constexpr BackwardVariant kBackwardVariants[] = {
    {1, 64, 2, 2, 192, 64},  {1, 64, 1, 2, 192, 64},  {1, 128, 2, 1, 224, 56}, {1, 128, 1, 1, 224, 56},
    {1, 128, 2, 1, 216, 72}, {1, 128, 1, 1, 216, 72}, {2, 128, 2, 1, 224, 56}, {2, 128, 1, 1, 224, 56},
    {1, 64, 2, 1, 224, 56},  {1, 64, 1, 1, 224, 56},  {1, 64, 2, 1, 216, 72},  {2, 64, 2, 1, 224, 56},
    {2, 64, 1, 1, 224, 56},  {2, 64, 2, 1, 216, 72},
};

/// The same on sm_80, where each 16 keys of a column and each 16 queries of a row have a warp.
constexpr BackwardVariant kPortableBackwardVariants[] = {
    {1, 64, 2, 2},  {1, 64, 2, 3},  {1, 64, 1, 2}, {1, 64, 2, 1}, {1, 64, 1, 1},  {1, 32, 2, 2},
    {1, 32, 2, 3},  {1, 32, 1, 2},  {1, 32, 2, 1}, {1, 32, 1, 1}, {1, 96, 2, 1},  {1, 96, 1, 1},
    {1, 128, 2, 1}, {1, 128, 1, 1}, {2, 64, 2, 1}, {2, 64, 1, 1}, {2, 128, 2, 1}, {2, 128, 1, 1},
};

CudaPlan plan_of(const BackwardVariant& variant, const CudaPlan& chosen) {
  CudaPlan plan = chosen;
  plan.consumers = variant.consumers;
  plan.tile_k = variant.tile_k;
  plan.stages = variant.stages;
  plan.ctas_per_sm = variant.ctas_per_sm;
  plan.consumer_registers = variant.consumer_registers;
  plan.producer_registers = variant.producer_registers;
  return plan;
}

CudaPlan plan_of(const Variant& variant, const CudaPlan& chosen) {
  CudaPlan plan = chosen;
  plan.consumers = variant.consumers;
  plan.tile_k = variant.tile_k;
  plan.stages = variant.stages;
  plan.query_stages = variant.query_stages;
  plan.ping_pong = variant.consumers > 1;
  plan.ctas_per_sm = variant.ctas_per_sm;
  plan.consumer_registers = variant.consumer_registers;
  plan.producer_registers = variant.producer_registers;
  return plan;
}

CudaPlan plan_of(const PortableVariant& variant, const CudaPlan& chosen) {
  CudaPlan plan = chosen;
  plan.consumers = variant.consumers;
  plan.warp_rows = variant.warp_rows;
  plan.tile_k = variant.tile_k;
  plan.ctas_per_sm = variant.ctas_per_sm;
  return plan;
}

/// Sets the plan's boxes. False where its rows do not lie in the mask's blocks as the default's do: rows of as many
/// queries as the default's, or of fewer that lie in one block; then lists mean the same.
bool fit_boxes(CudaPlan& plan, const CudaPlan& chosen, int64_t block) {
  plan.box_rows = plan.tile_k;
  if (block == 0) return true;
  const bool divides = chosen.row_blocks == 1 && block % (int64_t{64} * plan.consumers) == 0;
  if (plan.consumers != chosen.consumers && !divides) return false;
  plan.box_rows = static_cast<int>(std::min<int64_t>(chosen.box_rows, plan.tile_k));
  return plan.tile_k % plan.box_rows == 0 && block % plan.box_rows == 0;
}

/// The same for backward plans, whose key tiles are one box each. Where the default looks its tables up, plans that do
/// not are welcome too.
bool fit_one_box_as(CudaPlan& plan, const CudaPlan& chosen, int64_t block) {
  fit_one_box(plan, block);
  return plan.row_blocks == chosen.row_blocks || chosen.row_blocks == 0;
}

bool is_legal(const CudaPlan& plan, const Shape& shape) {
  try {
    verify(plan, shape);
  } catch (const InvalidInput&) {
    return false;
  }
  return true;
}

}  // namespace

std::vector<CudaPlan> plan_space(const Workload& workload, CudaFamily family) {
  const CudaPlan chosen = choose_cuda_plan(workload, family);
  std::vector<CudaPlan> plans = {chosen};
  const int64_t block = common_block(workload.pattern.mask);
  const bool backward = workload.shape.direction == Direction::kBackward;
  const auto add = [&](CudaPlan plan) {
    const bool fits = backward ? fit_one_box_as(plan, chosen, block) : fit_boxes(plan, chosen, block);
    if (!fits || !is_legal(plan, workload.shape)) return;
    if (std::ranges::find(plans, plan) == plans.end()) plans.push_back(plan);
  };
  const auto add_all = [&](const auto& variants) {
    for (const auto& variant : variants) add(plan_of(variant, chosen));
  };
  if (family == CudaFamily::kSm80) {
    backward ? add_all(kPortableBackwardVariants) : add_all(kPortableVariants);
  } else {
    backward ? add_all(kBackwardVariants) : add_all(kVariants);
  }
  return plans;
}

}  // namespace harrier
