#include "ir/cuda_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/error.h"

namespace harrier {
namespace {

constexpr int64_t kSharedBytesPerSm = 233472;
constexpr int64_t kReservedBytesPerCta = 1024;
constexpr int64_t kRegistersPerSm = 65536;
constexpr int64_t kRowSlots = 3;
constexpr int64_t kRowWorkBytes = 56;
constexpr int64_t kBarrierBytes = 8;

/// Registers a thread is launched with when `threads` of them fill the multiprocessor.
int64_t launch_registers(int64_t threads) { return kRegistersPerSm / threads / 8 * 8; }

void refuse(bool refused, const std::string& sentence) {
  if (refused) throw InvalidInput(sentence);
}

}  // namespace

std::string print(const CudaPlan& plan) {
  return fmt::format(
      "{}x{} in boxes of {}, {} consumers, {}+{} stages, {}, {}/{} registers, {} CTA{} a multiprocessor{}",
      64 * plan.consumers, plan.tile_k, plan.box_rows, plan.consumers, plan.stages, plan.query_stages,
      plan.ping_pong ? "ping-pong" : "no ping-pong", plan.consumer_registers, plan.producer_registers, plan.ctas_per_sm,
      plan.ctas_per_sm == 1 ? "" : "s", plan.fold_scale ? "" : ", scale not folded");
}

int64_t padded_dim(int64_t dim) { return (dim + 31) / 32 * 32; }

int64_t panel_columns(int64_t dim) { return padded_dim(dim) % 64 == 0 ? 64 : 32; }

int64_t shared_bytes(const CudaPlan& plan, const Shape& shape) {
  const int64_t qk_dim = padded_dim(shape.head_dim);
  const int64_t value_dim = padded_dim(shape.value_dim);
  const int64_t query = int64_t{64} * plan.consumers * std::max(qk_dim, value_dim) * 2;
  const int64_t tiles = int64_t{plan.stages} * plan.tile_k * (qk_dim + value_dim) * 2;
  const int64_t barriers = int64_t{2} * plan.query_stages + int64_t{4} * plan.stages + 2 * kRowSlots;
  const int64_t boxes = int64_t{plan.stages} * (plan.tile_k / plan.box_rows) * 4;
  return plan.query_stages * query + tiles + barriers * kBarrierBytes + boxes + kRowSlots * kRowWorkBytes;
}

void verify(const CudaPlan& plan, const Shape& shape) {
  refuse(shape.head_dim < 1 || shape.head_dim > 256 || shape.value_dim < 1 || shape.value_dim > 256,
         fmt::format("head dims {} and {} are outside 1..256: use the CPU backend", shape.head_dim, shape.value_dim));
  refuse(shape.dtype == DataType::kFloat32, "CUDA kernels take bf16 and fp16: convert, or use the CPU backend");
  refuse(plan.consumers < 1 || plan.consumers > 3,
         fmt::format("{} consumer warpgroups are outside 1..3", plan.consumers));
  refuse(plan.stages < 2 || plan.query_stages < 1, "a plan needs 2 stages of K and V and 1 of Q");
  refuse(
      plan.tile_k % 16 != 0 || plan.tile_k % plan.box_rows != 0 || plan.box_rows % 8 != 0 || plan.box_rows > 256,
      fmt::format("a key tile of {} in boxes of {}: tiles are multiples of 16, boxes multiples of 8 that divide them",
                  plan.tile_k, plan.box_rows));
  const int64_t bytes = shared_bytes(plan, shape) + kReservedBytesPerCta;
  refuse(bytes * plan.ctas_per_sm > kSharedBytesPerSm,
         fmt::format("{} CTAs of {} bytes of shared memory exceed the {} of a multiprocessor: take fewer stages or a "
                     "smaller key tile",
                     plan.ctas_per_sm, bytes, kSharedBytesPerSm));
  const int64_t threads = int64_t{128} * (plan.consumers + 1);
  const int64_t pool = launch_registers(threads * plan.ctas_per_sm) * (plan.consumers + 1);
  const int64_t wanted = int64_t{plan.consumers} * plan.consumer_registers + plan.producer_registers;
  refuse(wanted > pool,
         fmt::format("warpgroups ask for {} registers a thread column, the CTA is launched with {}: lower them", wanted,
                     pool));
}

CudaPlan default_sm90_plan(const Shape& shape, int64_t block_rows, int64_t keys_per_query) {
  const int64_t dim = std::max(padded_dim(shape.head_dim), padded_dim(shape.value_dim));
  CudaPlan plan;
  if (dim <= 64) {
    // Short rows and 64-query blocks: small CTAs side by side hide each other's latencies.
    constexpr int64_t kShortRow = 1024;
    if ((block_rows > 0 && block_rows <= 64) || (block_rows == 0 && keys_per_query <= kShortRow)) {
      plan = {.consumers = 1,
              .tile_k = 64,
              .box_rows = 64,
              .stages = 3,
              .ping_pong = false,
              .consumer_registers = 120,
              .producer_registers = 40,
              .ctas_per_sm = 3};
    } else {
      plan = {.consumers = 3, .stages = 3, .consumer_registers = 160, .producer_registers = 32};
    }
  } else if (dim <= 128) {
    plan = {};
  } else if (dim <= 192) {
    plan = {.tile_k = 96, .query_stages = 1};
  } else {
    plan = {.tile_k = 80, .query_stages = 1};
  }
  if (block_rows > 0 && block_rows < 128 && plan.consumers > 1) {
    plan.consumers = 1;
    plan.ping_pong = false;
    plan.consumer_registers = 240;
  }
  if (block_rows > 0 && plan.tile_k % 64 != 0) plan.tile_k = 64;
  plan.box_rows = plan.tile_k;
  if (block_rows > 0) plan.box_rows = static_cast<int>(std::min<int64_t>(block_rows, plan.tile_k));
  return plan;
}

}  // namespace harrier
