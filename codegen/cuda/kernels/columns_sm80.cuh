// dK and dV, and the gradients of learned arrays, for every GPU from sm_80 on: each warp has 16 keys of a column and
// walks the query tiles that see it.
//
//   S^T = K Q^T    P^T = exp2(S^T - LSE)    dV += P^T dO
//   dP^T = V dO^T  dS^T = P^T (dP^T - delta)  dK += dS^T Q
//
// P^T and dS^T never leave the registers in which their products leave them: they are the left operands of the next.
#pragma once

#include "codegen/cuda/kernels/backward_layout_sm80.cuh"
#include "codegen/cuda/kernels/copy_tile_sm80.cuh"
#include "codegen/cuda/kernels/learned_arrays.cuh"
#include "codegen/cuda/kernels/mask_column.cuh"
#include "codegen/cuda/kernels/online_softmax.cuh"
#include "codegen/cuda/kernels/products_sm80.cuh"
#include "codegen/cuda/kernels/query_source.cuh"
#include "codegen/cuda/kernels/score_gradients.cuh"
#include "codegen/cuda/kernels/store_rows.cuh"

namespace harrier {

/// Which sums of a column are made at a time: registers hold both only where the head dims are small.
enum class ColumnSums { kBoth, kKey, kValue, kArrays };

/// `Learned` is what is wanted instead of dK and dV, if anything.
template <class Config, class Mask, class Score, class Learned = LearnedArrays<>>
class ColumnsSm80 {
 public:
  using Shared = ColumnLayoutSm80<Config>;
  using QueryTile = typename Shared::Base::QueryTile;
  using GradientTile = typename Shared::Base::GradientTile;
  using KeyTile = typename Shared::Base::KeyTile;
  using ValueTile = typename Shared::Base::ValueTile;
  static constexpr int kThreads = backward_threads_sm80<Config>();
  static constexpr bool kArrays = !is_same<Learned, LearnedArrays<>>;
  static constexpr bool kBothFit = Config::kHeadDim + Config::kValueDim <= 256;
  /// Queries that are worked on at a time, as registers allow.
  static constexpr int kStep = kBothFit && Score::kIdentity ? 32 : 16;

  __device__ __forceinline__ ColumnsSm80(const BackwardParams& params, const Shared& shared)
      : params_(params), shared_(shared), lane_(static_cast<int>(threadIdx.x) & 31) {
    warp_ = ptx::broadcast(static_cast<int>(threadIdx.x) / 32, 0);
    const int first_row = 16 * (has_keys() ? warp_ : 0);
    key_lane_ = shared.key() + first_row * KeyTile::kRowBytes + left_lane<KeyTile>(lane_);
    value_lane_ = shared.value() + first_row * ValueTile::kRowBytes + left_lane<ValueTile>(lane_);
  }

  __device__ __forceinline__ void run() {
    WorkItem item;
    for (bool first = true; take_item(params_.columns, shared_, first, item); first = false) {
      const ColumnWork column = describe_column<Config>(params_.sequences, params_.rows_per_batch, item);
      load_keys(column);
      if constexpr (kArrays) {
        sum_up<ColumnSums::kArrays>(column, item);
      } else if constexpr (kBothFit) {
        sum_up<ColumnSums::kBoth>(column, item);
      } else {
        sum_up<ColumnSums::kValue>(column, item);
        sum_up<ColumnSums::kKey>(column, item);
      }
    }
  }

 private:
  struct Tile {
    int head;
    int entry;
    bool partial;
  };

  /// Warps past the key tile's last copy and wait with the others.
  __device__ __forceinline__ bool has_keys() const { return 16 * warp_ < Config::kTileK; }
  /// The first of this thread's two keys in the tile; the other is 8 further down.
  __device__ __forceinline__ int tile_key() const { return 16 * warp_ + (lane_ >> 2); }

  template <ColumnSums kSums>
  __device__ __forceinline__ void sum_up(const ColumnWork& column, const WorkItem& item) {
    constexpr bool kKey = kSums == ColumnSums::kBoth || kSums == ColumnSums::kKey;
    constexpr bool kValue = kSums == ColumnSums::kBoth || kSums == ColumnSums::kValue;
    float d_key[kKey ? Config::kHeadDim / 2 : 4] = {};
    float d_value[kValue ? Config::kValueDim / 2 : 4] = {};
    LearnedSums<Learned> learned;
    int passed = 0;  // tiles of earlier heads
    for (int i = 0; i < params_.heads_per_kv_head && passed < item.tile_limit; ++i) {
      const int head = column.kv_head * params_.heads_per_kv_head + i;
      const Position at = position_of(params_.arguments, column, head);
      QuerySource<Config, Mask> queries(at, params_.query_lists, item.tile, column.query_valid, lane_);
      const TileCounts counts = queries.count();
      const int begin = larger(item.first_tile - passed, 0);
      const int end = smaller(item.tile_limit - passed, counts.partial + counts.full);
      passed += counts.partial + counts.full;
      if (begin >= end) continue;
      queries.start(begin);
      Tile current{head, queries.next(), begin < counts.partial};
      __syncthreads();  // nobody uses the buffers any more
      load_queries(column, current, 0);
      uint32 stage = 0;
#pragma unroll 1
      for (int tile = begin; tile < end; ++tile) {
        ptx::wait_copies<0>();
        __syncthreads();  // the tile is there, and nobody uses the other buffer any more
        Tile next = current;
        const bool more = tile + 1 < end;
        if (more) next = {head, queries.next(), tile + 1 < counts.partial};
        if (Config::kStages > 1 && more) load_queries(column, next, stage ^ 1);
        if (has_keys()) attend<kSums>(column, at, current, stage, d_key, d_value, learned);
        if (Config::kStages == 1 && more) {
          __syncthreads();
          load_queries(column, next, 0);
        }
        if (Config::kStages > 1) stage ^= 1;
        current = next;
      }
      if (has_keys()) learned.finish(params_, at, column.key_begin + tile_key(), lane_);
    }
    ptx::wait_copies<0>();  // K and V of a column that nobody sees
    if (!has_keys()) return;
    if constexpr (kKey) store(column, params_.d_key_rows, params_.slope, 0, d_key);
    if constexpr (kValue) store(column, params_.d_value_rows, 1.0f, Config::kHeadDim, d_value);
  }

  /// One query tile.
  template <ColumnSums kSums, int kKeySums, int kValueSums>
  __device__ __forceinline__ void attend(const ColumnWork& column, const Position& at, const Tile& tile, uint32 stage,
                                         float (&d_key)[kKeySums], float (&d_value)[kValueSums],
                                         LearnedSums<Learned>& learned) const {
    const uint32 query = shared_.query(stage), d_output = shared_.d_output(stage);
    const uint32 query_right = query + right_lane<QueryTile>(lane_), query_left = query + left_lane<QueryTile>(lane_);
    const uint32 gradient_right = d_output + right_lane<GradientTile>(lane_);
    const uint32 gradient_left = d_output + left_lane<GradientTile>(lane_);
    const volatile float* stats = shared_.stats(stage);
    const int key = column.key_begin + tile_key();
    const int first_query = (tile.entry & kNoBox) * Config::kTileQ + 2 * (lane_ & 3);
#pragma unroll 1
    for (int step = 0; step < Config::kTileQ; step += kStep) {
      float weights[kStep / 2];
      // S^T = K Q^T
      multiply_rows<Config::kBFloat16, KeyTile, QueryTile, Config::kHeadDim>(
          key_lane_, query_right + step * QueryTile::kRowBytes, weights);
      float dots[kArrays ? kStep / 2 : 1], slopes[Score::kIdentity ? 1 : kStep / 2];
      if constexpr (kArrays) {
#pragma unroll
        for (int i = 0; i < kStep / 2; ++i) dots[i] = weights[i];
      }
      if constexpr (!Score::kIdentity) score_column(weights, slopes, at, key, first_query + step);
      if (tile.partial) {
        mask_column<Mask, kStep>(weights, at, key, first_query + step, static_cast<uint32>(tile.entry) >> 24,
                                 params_.score_scale, params_.padding_score);
      }
      // P^T = exp2(S^T - LSE)
#pragma unroll
      for (int i = 0; i < kStep / 2; ++i) {
        const int place = step + 8 * (i / 4) + 2 * (lane_ & 3) + i % 2;
        weights[i] = probability(weights[i], params_.score_scale, stats[place]);
      }
      uint32 packed[kStep / 4];
      pack_probabilities<Config::kBFloat16>(packed, weights);
      if constexpr (!Score::kIdentity && !kArrays) {
#pragma unroll
        for (int i = 0; i < kStep / 2; ++i) weights[i] = sloped(weights[i], slopes[i]);
      }
      // dV += P^T dO
      if constexpr (kSums == ColumnSums::kBoth || kSums == ColumnSums::kValue) {
        multiply_packed<Config::kBFloat16, GradientTile>(packed, gradient_left + step * GradientTile::kRowBytes,
                                                         d_value);
      }
      if constexpr (kSums != ColumnSums::kValue) {
        // dP^T = V dO^T
        float d_scores[kStep / 2];
        multiply_rows<Config::kBFloat16, ValueTile, GradientTile, Config::kValueDim>(
            value_lane_, gradient_right + step * GradientTile::kRowBytes, d_scores);
        // dS^T = P^T (dP^T - delta), times the score's slope
#pragma unroll
        for (int i = 0; i < kStep / 2; ++i) {
          const int place = step + 8 * (i / 4) + 2 * (lane_ & 3) + i % 2;
          d_scores[i] = weights[i] * (d_scores[i] - stats[Config::kTileQ + place]);
        }
        if constexpr (kArrays) {
          learned.add(params_, at, key, first_query + step, lane_, dots, weights, d_scores);
        } else {
          pack_probabilities<Config::kBFloat16>(packed, d_scores);
          // dK += dS^T Q
          multiply_packed<Config::kBFloat16, QueryTile>(packed, query_left + step * QueryTile::kRowBytes, d_key);
        }
      }
    }
  }

  /// Scores of raw dots, and their slopes in these.
  template <int kCount, int kSlopes>
  __device__ __forceinline__ void score_column(float (&scores)[kCount], float (&slopes)[kSlopes], const Position& at,
                                               int key, int query) const {
    static_assert(kCount == kSlopes, "every pair has a slope");
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int q = real_query(at, query + 8 * (i / 4) + i % 2), k = real_key(at, key + 8 * (i / 2 % 2));
      const float dot = scores[i];
      scores[i] = Score::score(at, dot, q, k);
      slopes[i] = Score::slope(at, dot, q, k);
    }
  }

  __device__ __forceinline__ void load_keys(const ColumnWork& column) const {
    const int attended = Mask::kAdditivePadding ? column.key_length : column.key_valid;
    const auto token_of = [&](int row, int) { return column.key_begin + row < attended ? row : -1; };
    const int token = column.key_offset + column.key_begin;
    copy_tile<KeyTile, kThreads>(
        shared_.key(), source_rows(params_.key_rows, column.batch_coordinate, column.kv_head, token), token_of);
    copy_tile<ValueTile, kThreads>(
        shared_.value(), source_rows(params_.value_rows, column.batch_coordinate, column.kv_head, token), token_of);
    ptx::commit_copies();
  }

  __device__ __forceinline__ void load_queries(const ColumnWork& column, const Tile& tile, uint32 stage) const {
    const int query_tile = tile.entry & kNoBox, query_begin = query_tile * Config::kTileQ;
    const auto token_of = [&](int row, int) { return query_begin + row < column.query_valid ? row : -1; };
    const int token = column.query_offset + query_begin;
    copy_tile<QueryTile, kThreads>(
        shared_.query(stage), source_rows(params_.query_rows, column.batch_coordinate, tile.head, token), token_of);
    copy_tile<GradientTile, kThreads>(shared_.d_output(stage),
                                      source_rows(params_.d_output_rows, column.batch_coordinate, tile.head, token),
                                      token_of);
    const int64 place =
        (static_cast<int64>(tile.head) * params_.tile_places + column.first_place + query_tile) * Config::kTileQ;
    for (int i = static_cast<int>(threadIdx.x); i < 2 * Config::kTileQ; i += kThreads) {
      shared_.stats(stage)[i] =
          i < Config::kTileQ ? params_.log2_lse[place + i] : params_.delta[place + i - Config::kTileQ];
    }
    ptx::commit_copies();
  }

  /// dK times the slope, or dV; unscaled and in fp32 where the item is part of a column.
  template <int kCount>
  __device__ __forceinline__ void store(const ColumnWork& column, const TensorRows& tensor, float factor,
                                        int part_column, float (&sums)[kCount]) const {
    if (column.split_slot >= 0) {
      constexpr int kColumns = Config::kHeadDim + Config::kValueDim;
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const int64 place = static_cast<int64>(column.split_slot) * Config::kTileK + tile_key() + 8 * row;
        float* part = params_.column_parts + place * kColumns + part_column + 2 * (lane_ & 3);
#pragma unroll
        for (int j = 0; j < kCount / 4; ++j) {
          *reinterpret_cast<float2*>(part + 8 * j) = {sums[4 * j + 2 * row], sums[4 * j + 2 * row + 1]};
        }
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] *= factor;
    const int first_key = column.key_begin + tile_key();
    const int attended = Mask::kAdditivePadding ? column.key_length : column.key_valid;
    store_rows<Config::kBFloat16>(
        tensor, element_of(tensor, column.batch_coordinate, column.kv_head, column.key_offset + first_key), first_key,
        attended, column.key_length, lane_, sums);
  }

  const BackwardParams& params_;
  const Shared& shared_;
  int lane_;
  int warp_;
  uint32 key_lane_;
  uint32 value_lane_;
};

}  // namespace harrier
