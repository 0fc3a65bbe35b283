#include "ir/cuda_backward_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/cuda_limits.h"

namespace harrier {
namespace {

constexpr int64_t kItemBytes = 16;

/// Bytes of the tiles that a row keeps (Q and dO), or a column (K and V).
int64_t tile_bytes(int64_t rows, const Shape& shape) {
  return rows * (padded_dim(shape.head_dim) + padded_dim(shape.value_dim)) * 2;
}

int64_t row_queries(const CudaPlan& plan) { return int64_t{64} * plan.consumers; }

/// K and V, and through buffers Q, dO and two numbers a query.
int64_t column_bytes(const CudaPlan& plan, const Shape& shape) {
  return tile_bytes(plan.tile_k, shape) + plan.stages * (tile_bytes(row_queries(plan), shape) + 8 * row_queries(plan));
}

/// Q and dO, and through buffers K, V and the tile's entry.
int64_t row_bytes(const CudaPlan& plan, const Shape& shape) {
  return tile_bytes(row_queries(plan), shape) + plan.stages * (tile_bytes(plan.tile_k, shape) + 4);
}

/// On sm_90a: K and V, Q and dO through buffers, dS, two numbers a query, barriers and descriptions of tiles and
/// columns; what two warpgroups of 64 keys exchange; dQ of a query tile in fp32, if that fits; then dS once more,
/// likewise. Descriptions of tiles and of dQ say its turn where there are turns.
int64_t warpgroup_bytes(const CudaPlan& plan, const Shape& shape) {
  constexpr int64_t kColumnSlots = 2;
  constexpr int64_t kColumnBytes = 60;
  const int64_t turn = adds_in_turn(plan) ? 4 : 0;
  const int64_t warpgroups = key_warpgroups(plan);
  const int64_t barriers = 2 * kColumnSlots + 2 + int64_t{4} * plan.stages + 2 * warpgroups;
  const bool divided = 64 * warpgroups != plan.tile_k;
  const int64_t scores = 2 * row_queries(plan) * plan.tile_k;
  const int64_t sums = 4 * row_queries(plan) * padded_dim(shape.head_dim);
  int64_t bytes = column_bytes(plan, shape) + scores + (divided ? int64_t{2} * 64 * row_queries(plan) : 0) +
                  8 * barriers + plan.stages * (16 + turn) + kColumnSlots * kColumnBytes + (4 + turn) * warpgroups;
  const auto fits = [&](int64_t more) {
    return (bytes + more + kReservedBytesPerCta) * plan.ctas_per_sm <= shared_bytes_per_sm(CudaFamily::kSm90);
  };
  if (fits(sums)) bytes += sums;
  if (!divided && fits(scores)) bytes += scores;
  return bytes;
}

void verify_warpgroups(const CudaPlan& plan) {
  refuse_plan(plan.tile_k % 64 != 0, fmt::format("columns of {} keys: a warpgroup of sm_90a has 64", plan.tile_k));
  const int64_t warpgroups = key_warpgroups(plan);
  refuse_plan(plan.consumers != 1 && plan.consumers != warpgroups,
              fmt::format("rows of {} queries for {} warpgroup: each makes dQ of 64 queries at most", row_queries(plan),
                          warpgroups));
  const int64_t pool = launch_registers(int64_t{backward_threads(plan)} * plan.ctas_per_sm) * (warpgroups + 1);
  const int64_t wanted = warpgroups * plan.consumer_registers + plan.producer_registers;
  refuse_plan(wanted > pool,
              fmt::format("warpgroups ask for {} registers a thread column, the CTA is launched with {}: lower them",
                          wanted, pool));
}

}  // namespace

int key_warpgroups(const CudaPlan& plan) { return std::max(plan.tile_k / 64, plan.ctas_per_sm == 1 ? 2 : 1); }

bool adds_in_turn(const CudaPlan& plan) { return plan.deterministic && plan.family == CudaFamily::kSm90; }

int64_t turns_of_tile(const CudaPlan& plan) { return adds_in_turn(plan) ? key_warpgroups(plan) : 0; }

int backward_threads(const CudaPlan& plan) {
  return plan.family == CudaFamily::kSm90 ? 128 * (key_warpgroups(plan) + 1) : backward_arrays_threads(plan);
}

int backward_arrays_threads(const CudaPlan& plan) {
  return static_cast<int>(2 * std::max(int64_t{plan.tile_k}, row_queries(plan)));
}

int64_t backward_shared_bytes(const CudaPlan& plan, const Shape& shape) {
  return plan.family == CudaFamily::kSm90 ? warpgroup_bytes(plan, shape) : backward_arrays_bytes(plan, shape);
}

int64_t backward_arrays_bytes(const CudaPlan& plan, const Shape& shape) {
  return std::max(column_bytes(plan, shape), row_bytes(plan, shape)) + kItemBytes;
}

void verify_backward(const CudaPlan& plan, const Shape& shape) {
  refuse_plan(
      shape.head_dim < 1 || shape.head_dim > 256 || shape.value_dim < 1 || shape.value_dim > 256,
      fmt::format("head dims {} and {} are outside 1..256: use the CPU backend", shape.head_dim, shape.value_dim));
  refuse_plan(shape.head_dim % 8 != 0 || shape.value_dim % 8 != 0,
              fmt::format("head dims {} and {} are not multiples of 8, which backward kernels copy at a time: pad them",
                          shape.head_dim, shape.value_dim));
  refuse_plan(shape.dtype == DataType::kFloat32,
              "dtype is fp32, CUDA kernels take bf16 and fp16: convert, or use the CPU backend");
  refuse_plan(plan.consumers < 1 || plan.consumers > 2,
              fmt::format("rows of {} queries: backward kernels take 64 or 128", 64 * plan.consumers));
  refuse_plan(plan.tile_k < 32 || plan.tile_k > 128 || plan.tile_k % 32 != 0 || plan.box_rows != plan.tile_k,
              fmt::format("columns of {} keys in boxes of {}: backward kernels take 32, 64, 96 or 128 in one box",
                          plan.tile_k, plan.box_rows));
  refuse_plan(plan.stages < 1 || plan.stages > 2, fmt::format("{} stages: backward kernels have 1 or 2", plan.stages));
  refuse_plan(shape.deterministic && plan.family == CudaFamily::kSm90 && !plan.deterministic,
              "the workload's gradients are deterministic, the plan's columns add to dQ as they come: take a "
              "deterministic plan");
  refuse_plan(plan.ctas_per_sm < 1, fmt::format("{} CTAs a multiprocessor: take at least 1", plan.ctas_per_sm));
  const int64_t bytes = backward_shared_bytes(plan, shape) + kReservedBytesPerCta;
  const int64_t limit = shared_bytes_per_sm(plan.family);
  refuse_plan(
      bytes * plan.ctas_per_sm > limit,
      fmt::format("{} CTAs of {} bytes of shared memory exceed the {} of a multiprocessor: take fewer stages or a "
                  "smaller key tile",
                  plan.ctas_per_sm, bytes, limit));
  if (plan.family == CudaFamily::kSm90) verify_warpgroups(plan);
}

CudaPlan default_sm90_backward_plan(const Shape& shape, int64_t block_rows, int64_t keys_per_query) {
  constexpr int64_t kShortRow = 1024;
  const int64_t dim = std::max(padded_dim(shape.head_dim), padded_dim(shape.value_dim));
  // A column and a row lie in one block of the mask's table; short rows waste less of small tiles.
  const bool small = block_rows % 128 != 0 || (block_rows == 0 && keys_per_query <= kShortRow && dim <= 64);
  CudaPlan plan = {.consumers = dim <= 64 && !small ? 2 : 1,
                   .tile_k = dim > 128 || small ? 64 : 128,
                   .stages = 2,
                   .query_stages = 1,
                   .ping_pong = false,
                   .consumer_registers = 224,
                   .producer_registers = 56};
  if (dim <= 64 && small) {
    plan.ctas_per_sm = 2;
    plan.consumer_registers = 192;
    plan.producer_registers = 64;
  }
  fit_one_box(plan, block_rows);
  return plan;
}

CudaPlan default_sm80_backward_plan(const Shape& shape, int64_t block_rows, int64_t) {
  const int64_t dim = std::max(padded_dim(shape.head_dim), padded_dim(shape.value_dim));
  CudaPlan plan = {.family = CudaFamily::kSm80,
                   .consumers = 1,
                   .tile_k = 64,
                   .stages = 2,
                   .query_stages = 1,
                   .ping_pong = false,
                   .consumer_registers = 0,
                   .producer_registers = 0,
                   .ctas_per_sm = dim <= 64 ? 2 : 1};
  if (dim > 128) {
    plan.tile_k = 32;
    plan.stages = 1;
  }
  fit_one_box(plan, block_rows);
  return plan;
}

std::optional<CudaPlan> roomier_backward_plan(const CudaPlan& plan) {
  CudaPlan roomier = plan;
  if (plan.family == CudaFamily::kSm90 && plan.consumers > 1) {
    if (plan.row_blocks > 1) return std::nullopt;  // rows of several blocks stay whole
    roomier.consumers = 1;
  } else if (plan.ctas_per_sm > 1) {
    --roomier.ctas_per_sm;
  } else {
    return std::nullopt;
  }
  if (plan.family == CudaFamily::kSm90) {
    constexpr int64_t kProducerRegisters = 56;
    constexpr int64_t kMostConsumerRegisters = 240;
    const int64_t warpgroups = key_warpgroups(roomier);
    const int64_t pool = launch_registers(128 * (warpgroups + 1) * roomier.ctas_per_sm) * (warpgroups + 1);
    const int64_t each = (pool - kProducerRegisters) / warpgroups / 8 * 8;
    roomier.producer_registers = static_cast<int>(kProducerRegisters);
    roomier.consumer_registers = static_cast<int>(std::min(each, kMostConsumerRegisters));
  }
  return roomier;
}

}  // namespace harrier
