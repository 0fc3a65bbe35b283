// Joins the parts of split rows: O = sum of w_i O_i with w_i = exp2(lse_i - lse), lse = log2 of the sum of exp2(lse_i).
#pragma once

#include "codegen/cuda/kernels/row_results.cuh"

namespace harrier {

inline constexpr int kCombineWarps = 8;

/// One warp for each query; a grid of (most split rows, kTileQ / kCombineWarps) CTAs of kCombineWarps warps. How many
/// rows are split is known on the device alone; the CTAs beyond have nothing to do.
template <class Config, class Mask, class Sink = NoSink>
__device__ __forceinline__ void combine(const ForwardParams& params, const SplitRow* split_rows,
                                        const int* split_count) {
  static_assert(Config::kTileQ % kCombineWarps == 0, "every warp has a query");
  if (static_cast<int>(blockIdx.x) >= *split_count) return;
  const SplitRow& split = split_rows[blockIdx.x];
  const RowWork row = describe_row<Config>(params, {split.tile, split.head, split.batch, 0, 0, -1});
  const int lane = threadIdx.x & 31;
  const int tile_query = blockIdx.y * kCombineWarps + threadIdx.x / 32;
  const int query = row.query_begin + tile_query;
  if (query >= row.query_length) return;

  const auto part = [&](int slot) { return static_cast<int64>(split.first_slot + slot) * Config::kTileQ + tile_query; };
  float maximum = minus_infinity();
  for (int slot = 0; slot < split.slots; ++slot) maximum = fmaxf(maximum, params.split_lse[part(slot)]);
  const bool visible = maximum > minus_infinity();

  float sum = 0.0f;
  float output[divide_up(Config::kValueDim, 32)] = {};
  for (int slot = 0; visible && slot < split.slots; ++slot) {
    const float weight = ptx::exp2_fast(params.split_lse[part(slot)] - maximum);
    if (weight == 0.0f) continue;  // an empty part has written no output
    sum += weight;
#pragma unroll
    for (int i = 0; i < Config::kValueDim / 32; ++i) {
      output[i] += weight * params.split_output[part(slot) * Config::kValueDim + 32 * i + lane];
    }
  }
  float inverse = visible ? 1.0f / sum : 0.0f;
  float lse = visible ? maximum + ptx::log2_fast(sum) : minus_infinity();
  if constexpr (Sink::kExists) {
    const Position at{params.arguments, row.batch,       row.head,      row.query_length,
                      row.key_length,   row.query_token, row.key_token, row.key_valid};
    inverse *= add_sink(lse, Sink::logit(at) * kLog2OfE);
  }
  if constexpr (Mask::kPrunedAsZero) {
    int shown = 0;
    for (int slot = 0; slot < split.slots; ++slot) shown += params.split_shown[part(slot)];
    inverse *= add_pruned(lse, row.key_length - shown);
  }
  uint16* destination =
      static_cast<uint16*>(params.output_rows.data) + row.batch_coordinate * params.output_rows.batch_stride +
      row.head * params.output_rows.head_stride + (row.query_offset + query) * params.output_rows.token_stride;
#pragma unroll
  for (int i = 0; i < Config::kValueDim / 32; ++i) {
    if (32 * i + lane < params.output_rows.columns) {
      destination[32 * i + lane] = static_cast<uint16>(ptx::pack<Config::kBFloat16>(output[i] * inverse, 0.0f));
    }
  }
  if (lane == 0) store_lse(params, row, query, lse * kLogOf2);
}

}  // namespace harrier
