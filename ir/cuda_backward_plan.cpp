#include "ir/cuda_backward_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/error.h"

namespace harrier {
namespace {

constexpr int64_t kReservedBytesPerCta = 1024;
constexpr int64_t kSharedBytesPerSm80 = 167936;
constexpr int64_t kItemBytes = 16;

void refuse(bool refused, const std::string& sentence) {
  if (refused) throw InvalidInput(sentence);
}

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

}  // namespace

int key_warpgroups(const CudaPlan& plan) { return plan.tile_k / 64; }

int backward_threads(const CudaPlan& plan) { return backward_arrays_threads(plan); }

int backward_arrays_threads(const CudaPlan& plan) {
  return static_cast<int>(2 * std::max(int64_t{plan.tile_k}, row_queries(plan)));
}

int64_t backward_shared_bytes(const CudaPlan& plan, const Shape& shape) { return backward_arrays_bytes(plan, shape); }

int64_t backward_arrays_bytes(const CudaPlan& plan, const Shape& shape) {
  return std::max(column_bytes(plan, shape), row_bytes(plan, shape)) + kItemBytes;
}

void verify_backward(const CudaPlan& plan, const Shape& shape) {
  refuse(shape.head_dim < 1 || shape.head_dim > 256 || shape.value_dim < 1 || shape.value_dim > 256,
         fmt::format("head dims {} and {} are outside 1..256: use the CPU backend", shape.head_dim, shape.value_dim));
  refuse(shape.head_dim % 8 != 0 || shape.value_dim % 8 != 0,
         fmt::format("head dims {} and {} are not multiples of 8, which backward kernels copy at a time: pad them",
                     shape.head_dim, shape.value_dim));
  refuse(shape.dtype == DataType::kFloat32,
         "dtype is fp32, CUDA kernels take bf16 and fp16: convert, or use the CPU backend");
  refuse(plan.consumers < 1 || plan.consumers > 2,
         fmt::format("rows of {} queries: backward kernels take 64 or 128", 64 * plan.consumers));
  refuse(plan.tile_k < 32 || plan.tile_k > 128 || plan.tile_k % 32 != 0 || plan.box_rows != plan.tile_k,
         fmt::format("columns of {} keys in boxes of {}: backward kernels take 32, 64, 96 or 128 in one box",
                     plan.tile_k, plan.box_rows));
  refuse(plan.stages < 1 || plan.stages > 2, fmt::format("{} stages: backward kernels have 1 or 2", plan.stages));
  refuse(plan.ctas_per_sm < 1, fmt::format("{} CTAs a multiprocessor: take at least 1", plan.ctas_per_sm));
  const int64_t bytes = backward_shared_bytes(plan, shape) + kReservedBytesPerCta;
  refuse(bytes * plan.ctas_per_sm > kSharedBytesPerSm80,
         fmt::format("{} CTAs of {} bytes of shared memory exceed the {} of a multiprocessor: take fewer stages or a "
                     "smaller key tile",
                     plan.ctas_per_sm, bytes, kSharedBytesPerSm80));
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

}  // namespace harrier
