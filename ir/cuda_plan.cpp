#include "ir/cuda_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "ir/cuda_backward_plan.h"
#include "ir/cuda_limits.h"

namespace harrier {
namespace {

constexpr int64_t kRowWorkBytes = 56;
constexpr int64_t kBarrierBytes = 8;
constexpr int64_t kMostThreadsPerSm = 1536;

/// Queries that see at most so many keys want small CTAs side by side, which hide each other's latencies.
constexpr int64_t kShortRow = 1024;

/// The largest boxes that make up whole key tiles and whole blocks.
int box_rows(int tile_k, int64_t block_rows) {
  return block_rows > 0 ? static_cast<int>(std::gcd(int64_t{tile_k}, block_rows)) : tile_k;
}

constexpr int kMostRowBlocks = 8;  // a list entry has a bit for each

/// Blocks of `block_rows` queries in a row of `queries`; 1 where the row lies in one block, 0 where neither divides the
/// other.
int row_blocks(int64_t queries, int64_t block_rows) {
  if (block_rows == 0 || block_rows % queries == 0) return 1;
  return queries % block_rows == 0 && queries / block_rows <= kMostRowBlocks ? static_cast<int>(queries / block_rows)
                                                                             : 0;
}

/// Boxes and blocks of queries that fit the mask's block lists.
void fit_blocks(CudaPlan& plan, int64_t block_rows) {
  plan.row_blocks = row_blocks(int64_t{64} * plan.consumers, block_rows);
  plan.box_rows = box_rows(plan.tile_k, plan.row_blocks > 0 ? block_rows : 0);
}

void verify_sm90(const CudaPlan& plan) {
  refuse_plan(plan.stages < 2 || plan.query_stages < 1, "a plan needs 2 stages of K and V and 1 of Q");
  const int64_t pool = launch_registers(int64_t{cuda_threads(plan)} * plan.ctas_per_sm) * (plan.consumers + 1);
  const int64_t wanted = int64_t{plan.consumers} * plan.consumer_registers + plan.producer_registers;
  refuse_plan(wanted > pool,
              fmt::format("warpgroups ask for {} registers a thread column, the CTA is launched with {}: lower them",
                          wanted, pool));
}

void verify_sm80(const CudaPlan& plan, const Shape& shape) {
  refuse_plan(plan.warp_rows != 16 && plan.warp_rows != 32,
              fmt::format("{} queries of a warp: warps of sm_80 have 16 or 32", plan.warp_rows));
  refuse_plan(
      plan.stages != 2 || plan.query_stages != 1,
      fmt::format("{} stages of K and V and {} of Q: kernels of sm_80 have 2 and 1", plan.stages, plan.query_stages));
  refuse_plan(shape.head_dim % 8 != 0 || shape.value_dim % 8 != 0,
              fmt::format("head dims {} and {} are not multiples of 8, which kernels of sm_80 copy at a time: pad them",
                          shape.head_dim, shape.value_dim));
  const int64_t threads = int64_t{cuda_threads(plan)} * plan.ctas_per_sm;
  refuse_plan(
      threads > kMostThreadsPerSm,
      fmt::format("{} threads a multiprocessor exceed the limit of {}: take fewer CTAs", threads, kMostThreadsPerSm));
}

std::string forward_tiles(const CudaPlan& plan) {
  const std::string tiles = fmt::format("{}x{} in boxes of {}, ", 64 * plan.consumers, plan.tile_k, plan.box_rows);
  if (plan.family == CudaFamily::kSm80) return tiles + fmt::format("{} warps", cuda_threads(plan) / 32);
  return tiles + fmt::format("{} consumers, {}+{} stages, {}, {}/{} registers", plan.consumers, plan.stages,
                             plan.query_stages, plan.ping_pong ? "ping-pong" : "no ping-pong", plan.consumer_registers,
                             plan.producer_registers);
}

std::string backward_tiles(const CudaPlan& plan) {
  const bool sm90 = plan.family == CudaFamily::kSm90;
  const std::string workers =
      sm90 ? fmt::format("{} warpgroup{}", key_warpgroups(plan), key_warpgroups(plan) == 1 ? "" : "s")
           : fmt::format("{} warps", backward_threads(plan) / 32);
  return fmt::format("rows of {} queries, columns of {} keys, {}, {} stage{}", 64 * plan.consumers, plan.tile_k,
                     workers, plan.stages, plan.stages == 1 ? "" : "s") +
         (sm90 ? fmt::format(", {}/{} registers", plan.consumer_registers, plan.producer_registers) : std::string());
}

}  // namespace

std::string print(const CudaPlan& plan, Direction direction) {
  return (direction == Direction::kBackward ? backward_tiles(plan) : forward_tiles(plan)) +
         fmt::format(", {} CTA{} a multiprocessor{}", plan.ctas_per_sm, plan.ctas_per_sm == 1 ? "" : "s",
                     plan.fold_scale ? "" : ", scale not folded") +
         (plan.row_blocks == 1   ? ""
          : plan.row_blocks == 0 ? ", tables looked up"
                                 : fmt::format(", {} blocks of queries a row", plan.row_blocks)) +
         (plan.deterministic ? ", deterministic" : "");
}

int64_t padded_dim(int64_t dim) { return (dim + 31) / 32 * 32; }

int64_t panel_columns(int64_t dim) { return padded_dim(dim) % 64 == 0 ? 64 : 32; }

int cuda_threads(const CudaPlan& plan) {
  return plan.family == CudaFamily::kSm90 ? 128 * (plan.consumers + 1) : 32 * 64 * plan.consumers / plan.warp_rows;
}

int64_t shared_bytes(const CudaPlan& plan, const Shape& shape) {
  if (shape.direction == Direction::kBackward) return backward_shared_bytes(plan, shape);
  const int64_t qk_dim = padded_dim(shape.head_dim);
  const int64_t value_dim = padded_dim(shape.value_dim);
  const int64_t queries = int64_t{64} * plan.consumers;
  const int64_t tiles = int64_t{plan.stages} * plan.tile_k * (qk_dim + value_dim) * 2;
  const int64_t boxes = int64_t{plan.stages} * (plan.tile_k / plan.box_rows) * 4;
  if (plan.family == CudaFamily::kSm80) {
    constexpr int64_t kRowSlots = 2;
    return queries * qk_dim * 2 + tiles + boxes + kRowSlots * (kRowWorkBytes + 4);
  }
  constexpr int64_t kRowSlots = 3;
  const int64_t query = queries * std::max(qk_dim, value_dim) * 2;
  const int64_t barriers = int64_t{2} * plan.query_stages + int64_t{4} * plan.stages + 2 * kRowSlots;
  return plan.query_stages * query + tiles + barriers * kBarrierBytes + boxes + kRowSlots * kRowWorkBytes;
}

void fit_one_box(CudaPlan& plan, int64_t block_rows) {
  plan.box_rows = plan.tile_k;
  plan.row_blocks = block_rows % plan.tile_k == 0 ? row_blocks(int64_t{64} * plan.consumers, block_rows) : 0;
}

void verify(const CudaPlan& plan, const Shape& shape) {
  if (shape.direction == Direction::kBackward) return verify_backward(plan, shape);
  refuse_plan(
      shape.head_dim < 1 || shape.head_dim > 256 || shape.value_dim < 1 || shape.value_dim > 256,
      fmt::format("head dims {} and {} are outside 1..256: use the CPU backend", shape.head_dim, shape.value_dim));
  refuse_plan(shape.dtype == DataType::kFloat32,
              "dtype is fp32, CUDA kernels take bf16 and fp16: convert, or use the CPU backend");
  refuse_plan(plan.consumers < 1 || plan.consumers > 3,
              fmt::format("{} consumer warpgroups are outside 1..3", plan.consumers));
  refuse_plan(
      plan.tile_k < 16 || plan.box_rows < 8 || plan.tile_k % 16 != 0 || plan.tile_k % plan.box_rows != 0 ||
          plan.box_rows % 8 != 0 || plan.box_rows > 256,
      fmt::format("a key tile of {} in boxes of {}: tiles are multiples of 16, boxes multiples of 8 up to 256 that "
                  "divide them",
                  plan.tile_k, plan.box_rows));
  refuse_plan(plan.row_blocks < 0 || plan.row_blocks > kMostRowBlocks ||
                  (plan.row_blocks > 0 && 64 * plan.consumers % plan.row_blocks != 0),
              fmt::format("{} blocks of queries in a row of {}: take up to {} that divide it, or 0 to look tables up",
                          plan.row_blocks, 64 * plan.consumers, kMostRowBlocks));
  refuse_plan(plan.ctas_per_sm < 1, fmt::format("{} CTAs a multiprocessor: take at least 1", plan.ctas_per_sm));
  const int64_t bytes = shared_bytes(plan, shape) + kReservedBytesPerCta;
  const int64_t limit = shared_bytes_per_sm(plan.family);
  refuse_plan(
      bytes * plan.ctas_per_sm > limit,
      fmt::format("{} CTAs of {} bytes of shared memory exceed the {} of a multiprocessor: take fewer stages or a "
                  "smaller key tile",
                  plan.ctas_per_sm, bytes, limit));
  if (plan.family == CudaFamily::kSm90) {
    verify_sm90(plan);
  } else {
    verify_sm80(plan, shape);
  }
}

CudaPlan default_sm90_plan(const Shape& shape, int64_t block_rows, int64_t keys_per_query) {
  const int64_t dim = std::max(padded_dim(shape.head_dim), padded_dim(shape.value_dim));
  CudaPlan plan;
  if (dim <= 64) {
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
  if (block_rows % 128 == 0 && block_rows % 192 != 0 && plan.consumers == 3) {
    plan = {.stages = 3};  // rows lie in one block of queries
  } else if (plan.consumers > 1 && block_rows % (int64_t{64} * plan.consumers) != 0) {
    plan.consumers = 1;
    plan.ping_pong = false;
    plan.consumer_registers = 240;
  }
  if (block_rows > 0 && plan.tile_k % 64 != 0) plan.tile_k = 64;
  fit_blocks(plan, block_rows);
  return plan;
}

CudaPlan default_sm80_plan(const Shape& shape, int64_t block_rows, int64_t keys_per_query) {
  const int64_t dim = std::max(padded_dim(shape.head_dim), padded_dim(shape.value_dim));
  CudaPlan plan = {.family = CudaFamily::kSm80,
                   .tile_k = 64,
                   .query_stages = 1,
                   .ping_pong = false,
                   .consumer_registers = 0,
                   .producer_registers = 0};
  if (dim > 128) plan.tile_k = 32;
  // 128 queries read K and V half as often as 64 do. They are for rows that see more than a few tiles, and have to fit;
  // a row of lists belongs to one block of queries.
  if (dim <= 64 && keys_per_query > kShortRow && block_rows % 128 == 0) {
    plan.warp_rows = 32;
    plan.ctas_per_sm = 2;
  } else if (dim <= 64 || dim > 192 || block_rows % 128 != 0) {
    plan.consumers = 1;
    plan.ctas_per_sm = dim <= 64 ? 3 : dim <= 128 ? 2 : 1;
  }
  fit_blocks(plan, block_rows);
  return plan;
}

std::optional<CudaPlan> roomier_plan(const CudaPlan& plan) {
  constexpr int64_t kMostConsumerRegisters = 240;
  CudaPlan roomier = plan;
  if (plan.ctas_per_sm > 1) {
    --roomier.ctas_per_sm;
  } else if (plan.family == CudaFamily::kSm90 && plan.consumers > 1 && plan.row_blocks == 1) {
    roomier.consumers = 1;
    roomier.ping_pong = false;
  } else {
    return std::nullopt;
  }
  if (plan.family == CudaFamily::kSm90) {
    const int64_t groups = roomier.consumers + 1;
    const int64_t pool = launch_registers(128 * groups * roomier.ctas_per_sm) * groups;
    const int64_t each = (pool - roomier.producer_registers) / roomier.consumers / 8 * 8;
    roomier.consumer_registers = static_cast<int>(std::min(each, kMostConsumerRegisters));
  }
  return roomier;
}

}  // namespace harrier
