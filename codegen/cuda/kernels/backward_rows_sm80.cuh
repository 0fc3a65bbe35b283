// dQ, for every GPU from sm_80 on: each warp has 16 queries of a row and walks its key tiles.
//
//   S = Q K^T    P = exp2(S - LSE)
//   dP = dO V^T  dS = P (dP - delta)  dQ += dS K
#pragma once

#include "codegen/cuda/kernels/backward_layout_sm80.cuh"
#include "codegen/cuda/kernels/copy_tile_sm80.cuh"
#include "codegen/cuda/kernels/key_source.cuh"
#include "codegen/cuda/kernels/mask_tile.cuh"
#include "codegen/cuda/kernels/online_softmax.cuh"
#include "codegen/cuda/kernels/products_sm80.cuh"
#include "codegen/cuda/kernels/score_gradients.cuh"
#include "codegen/cuda/kernels/store_rows.cuh"

namespace harrier {

template <class Config, class Mask, class Score>
class BackwardRowsSm80 {
 public:
  using Shared = RowLayoutSm80<Config>;
  using QueryTile = typename Shared::Base::QueryTile;
  using GradientTile = typename Shared::Base::GradientTile;
  using KeyTile = typename Shared::Base::KeyTile;
  using ValueTile = typename Shared::Base::ValueTile;
  static constexpr int kThreads = backward_threads_sm80<Config>();
  static constexpr int kScores = Config::kTileK / 2;
  static_assert(Config::kBoxRows == Config::kTileK, "a key tile of the backward pass is one box");

  __device__ __forceinline__ BackwardRowsSm80(const BackwardParams& params, const Shared& shared)
      : params_(params), shared_(shared), lane_(static_cast<int>(threadIdx.x) & 31) {
    warp_ = ptx::broadcast(static_cast<int>(threadIdx.x) / 32, 0);
    const int first_row = 16 * (has_queries() ? warp_ : 0);
    query_lane_ = shared.query() + first_row * QueryTile::kRowBytes + left_lane<QueryTile>(lane_);
    gradient_lane_ = shared.d_output() + first_row * GradientTile::kRowBytes + left_lane<GradientTile>(lane_);
  }

  __device__ __forceinline__ void run() {
    WorkItem item;
    for (bool first = true; take_item(params_.rows, shared_, first, item); first = false) {
      const RowWork row = describe_row<Config>(params_.sequences, item);
      const Position at = position_of(params_.arguments, row);
      float d_query[Config::kHeadDim / 2] = {};
      if (row.query_begin < row.query_valid) walk(row, at, item, d_query);
      if (has_queries()) store(row, d_query);
    }
  }

 private:
  /// This thread's two queries.
  struct Stats {
    float log2_lse[2];
    float delta[2];
  };

  /// Warps past the query tile's last copy and wait with the others.
  __device__ __forceinline__ bool has_queries() const { return 16 * warp_ < Config::kTileQ; }
  __device__ __forceinline__ int tile_query() const { return 16 * warp_ + (lane_ >> 2); }

  template <int kSums>
  __device__ __forceinline__ void walk(const RowWork& row, const Position& at, const WorkItem& item,
                                       float (&d_query)[kSums]) {
    const int query_end = smaller(row.query_begin + Config::kTileQ, row.query_valid);
    KeySource<Config, Mask> keys(at, params_.key_lists, item.tile, row.query_begin, query_end, lane_);
    const TileCounts counts = keys.count();
    const int end = smaller(item.tile_limit, counts.partial + counts.full);
    if (item.first_tile >= end) return;
    load_queries(row);
    const Stats stats = load_stats(row);
    keys.start(item.first_tile);
    load_keys(row, at, keys.next(), 0);
    uint32 stage = 0;
#pragma unroll 1
    for (int tile = item.first_tile; tile < end; ++tile) {
      ptx::wait_copies<0>();
      __syncthreads();  // the tile is there, and nobody uses the other buffer any more
      const bool more = tile + 1 < end;
      const int next = more ? keys.next() : 0;
      if (Config::kStages > 1 && more) load_keys(row, at, next, stage ^ 1);
      if (has_queries()) attend(row, at, stats, tile < counts.partial, stage, d_query);
      if (Config::kStages == 1 && more) {
        __syncthreads();
        load_keys(row, at, next, 0);
      }
      if (Config::kStages > 1) stage ^= 1;
    }
  }

  /// One key tile.
  template <int kSums>
  __device__ __forceinline__ void attend(const RowWork& row, const Position& at, const Stats& stats, bool partial,
                                         uint32 stage, float (&d_query)[kSums]) const {
    const uint32 key = shared_.key(stage), value = shared_.value(stage);
    const volatile int* boxes = shared_.boxes(stage);
    const int first_query = row.query_begin + tile_query();
    const int first_key = (boxes[0] & kNoBox) * Config::kBoxRows + 2 * (lane_ & 3);
    float weights[kScores];
    // S = Q K^T
    multiply_rows<Config::kBFloat16, QueryTile, KeyTile, Config::kHeadDim>(query_lane_,
                                                                           key + right_lane<KeyTile>(lane_), weights);
    float slopes[Score::kIdentity ? 1 : kScores];
    if constexpr (!Score::kIdentity) {
#pragma unroll
      for (int i = 0; i < kScores; ++i) {
        const int q = real_query(at, first_query + 8 * (i / 2 % 2)), k = real_key(at, first_key + 8 * (i / 4) + i % 2);
        const float dot = weights[i];
        weights[i] = Score::score(at, dot, q, k);
        slopes[i] = Score::slope(at, dot, q, k);
      }
    }
    if (partial) {
      SeenKeys<Mask> seen;
      seen.find(at, first_query);
      int shown[2] = {0, 0};
      mask_tile<Config, Mask>(weights, at, first_query, seen, boxes, lane_, params_, shown);
    }
    // P = exp2(S - LSE), times the score's slope
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      weights[i] = probability(weights[i], params_.score_scale, stats.log2_lse[i / 2 % 2]);
      if constexpr (!Score::kIdentity) weights[i] = sloped(weights[i], slopes[i]);
    }
    // dP = dO V^T
    float d_scores[kScores];
    multiply_rows<Config::kBFloat16, GradientTile, ValueTile, Config::kValueDim>(
        gradient_lane_, value + right_lane<ValueTile>(lane_), d_scores);
    // dS = P (dP - delta)
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      d_scores[i] = weights[i] * (d_scores[i] - stats.delta[i / 2 % 2]);
    }
    uint32 packed[kScores / 2];
    pack_probabilities<Config::kBFloat16>(packed, d_scores);
    // dQ += dS K
    multiply_packed<Config::kBFloat16, KeyTile>(packed, key + left_lane<KeyTile>(lane_), d_query);
  }

  __device__ __forceinline__ int64 stats_place(const RowWork& row) const {
    const int first = first_row(params_.rows_per_batch, row.batch, row.query_token, Config::kTileQ);
    return (static_cast<int64>(row.head) * params_.tile_places + first) * Config::kTileQ + row.query_begin;
  }

  __device__ __forceinline__ Stats load_stats(const RowWork& row) const {
    Stats stats{};
    if (!has_queries()) return stats;
    const int64 place = stats_place(row) + tile_query();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      stats.log2_lse[i] = params_.log2_lse[place + 8 * i];
      stats.delta[i] = params_.delta[place + 8 * i];
    }
    return stats;
  }

  __device__ __forceinline__ void load_queries(const RowWork& row) const {
    const auto token_of = [&](int tile_row, int) {
      return row.query_begin + tile_row < row.query_valid ? tile_row : -1;
    };
    const int token = row.query_offset + row.query_begin;
    copy_tile<QueryTile, kThreads>(shared_.query(),
                                   source_rows(params_.query_rows, row.batch_coordinate, row.head, token), token_of);
    copy_tile<GradientTile, kThreads>(
        shared_.d_output(), source_rows(params_.d_output_rows, row.batch_coordinate, row.head, token), token_of);
    ptx::commit_copies();
  }

  __device__ __forceinline__ void load_keys(const RowWork& row, const Position& at, int entry, uint32 stage) const {
    const int key_begin = (entry & kNoBox) * Config::kTileK;
    const int attended = attended_keys<Mask>(at);
    const auto token_of = [&](int tile_row, int) { return key_begin + tile_row < attended ? tile_row : -1; };
    const int token = (params_.sequences.cu_key != nullptr ? row.key_token : 0) + key_begin;
    const int kv_head = row.head / params_.heads_per_kv_head;
    copy_tile<KeyTile, kThreads>(shared_.key(stage),
                                 source_rows(params_.key_rows, row.batch_coordinate, kv_head, token), token_of);
    copy_tile<ValueTile, kThreads>(shared_.value(stage),
                                   source_rows(params_.value_rows, row.batch_coordinate, kv_head, token), token_of);
    if (threadIdx.x == 0) *shared_.boxes(stage) = entry;
    ptx::commit_copies();
  }

  /// dQ times the slope; unscaled and in fp32 where the item is part of a row.
  template <int kSums>
  __device__ __forceinline__ void store(const RowWork& row, float (&d_query)[kSums]) const {
    if (row.split_slot >= 0) {
#pragma unroll
      for (int part_row = 0; part_row < 2; ++part_row) {
        const int64 place = static_cast<int64>(row.split_slot) * Config::kTileQ + tile_query() + 8 * part_row;
        float* part = params_.row_parts + place * Config::kHeadDim + 2 * (lane_ & 3);
#pragma unroll
        for (int j = 0; j < kSums / 4; ++j) {
          *reinterpret_cast<float2*>(part + 8 * j) = {d_query[4 * j + 2 * part_row], d_query[4 * j + 2 * part_row + 1]};
        }
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kSums; ++i) d_query[i] *= params_.slope;
    const int first_query = row.query_begin + tile_query();
    store_rows<Config::kBFloat16>(
        params_.d_query_rows,
        element_of(params_.d_query_rows, row.batch_coordinate, row.head, row.query_offset + first_query), first_query,
        row.query_valid, row.query_length, lane_, d_query);
  }

  const BackwardParams& params_;
  const Shared& shared_;
  int lane_;
  int warp_;
  uint32 query_lane_;
  uint32 gradient_lane_;
};

}  // namespace harrier
