// A consumer warpgroup of a CTA that works on columns: dK and dV of its 64 keys, and its share of dQ of every query tile
// of the column.
//
// Scores are computed transposed, S^T = K Q^T and dP^T = V dO^T, so that P^T and dS^T are in registers what the
// products dV += P^T dO and dK += dS^T Q take from there. Only dQ = dS K needs dS of all keys, through shared memory.
#pragma once

#include "codegen/cuda/kernels/backward_layout_sm90.cuh"
#include "codegen/cuda/kernels/column_results.cuh"
#include "codegen/cuda/kernels/mask_column.cuh"
#include "codegen/cuda/kernels/score_column.cuh"
#include "codegen/cuda/kernels/wgmma.cuh"

namespace harrier {

template <class Config, class Mask, class Score>
class ColumnConsumer {
 public:
  using Shared = ColumnLayout<Config>;
  using Shares = QueryShares<Config>;
  static constexpr int kPairs = Config::kTileQ / 2;  // of keys and queries, that a thread has of a tile

  __device__ __forceinline__ ColumnConsumer(const BackwardParams& params, const Shared& shared, ConsumerThread thread)
      : params_(params), shared_(shared), thread_(thread) {
    sums_.parity = 1;  // starts empty
  }

  __device__ __forceinline__ void run() {
    float d_key[Config::kHeadDim / 2];
    float d_value[Config::kValueDim / 2];
    while (true) {
      ptx::barrier_wait(shared_.column_full(column_.stage), column_.parity);
      const volatile ColumnWork& column = *shared_.column(column_.stage);
      const int tiles = column.tiles;
      if (tiles < 0) break;
#pragma unroll
      for (float& sum : d_key) sum = 0.0f;
#pragma unroll
      for (float& sum : d_value) sum = 0.0f;
      if (tiles > 0) {
        ptx::barrier_wait(shared_.keys_full(), keys_.parity);
        keys_.advance();
#pragma unroll 1
        for (int tile = 0; tile < tiles; ++tile) step(d_key, d_value, column);
        if (leads()) ptx::barrier_arrive(shared_.keys_empty());
      }
      store(d_key, d_value, column);
      ptx::warp_sync();
      if (thread_.lane == 0) ptx::barrier_arrive(shared_.column_empty(column_.stage));
      column_.advance();
    }
    hand_over_sums(Shared::kNoMoreSums);
  }

 private:
  /// One query tile.
  __device__ __forceinline__ void step(float (&d_key)[Config::kHeadDim / 2], float (&d_value)[Config::kValueDim / 2],
                                       const volatile ColumnWork& column) {
    float scores[kPairs];
    float d_scores[kPairs];
    uint32 probabilities[kPairs / 2];
    uint32 gradients[kPairs / 2];
    uint32 slopes[Score::kIdentity ? 1 : kPairs / 2];
    const uint32 stage = tile_.stage;

    ptx::barrier_wait(shared_.query_full(stage), tile_.parity);
    start_scores(scores);
    if constexpr (Score::kIdentity) {
      ptx::barrier_wait(shared_.d_output_full(stage), tile_.parity);
      start_d_probabilities(d_scores);
      wgmma::wait<1>();
    } else {
      wgmma::wait<0>();  // slopes take the registers of dP
    }
    wgmma::hold(scores);
    const int place = find_probabilities(scores, slopes, column);
    pack(probabilities, scores);
    if constexpr (!Score::kIdentity) {
      apply_slopes<Config::kBFloat16>(scores, slopes);
      pack(gradients, scores);  // to be multiplied by dP - delta; fp32 would not fit beside dP
      ptx::barrier_wait(shared_.d_output_full(stage), tile_.parity);
      start_d_probabilities(d_scores);
    }
    wgmma::wait<0>();
    wgmma::hold(d_scores);
    if constexpr (!Score::kIdentity) unpack(scores, gradients);
    find_gradients(d_scores, scores);
    pack(gradients, d_scores);

    if constexpr (Shared::kScoreBuffers == 1) sync_consumers();  // dQ of the tile before has read it
    share_gradients(gradients);
    start_d_value(d_value, probabilities);
    ptx::fence_shared_for_async();
    sync_consumers();
    // Branches that differ in the width of a product hold all that runs beside it.
    if constexpr (Shares::kLargerParts == 0) {
      finish_step<Shares::kMostColumns>(d_key, d_value, gradients, place);
    } else if (Shares::part(thread_.warpgroup) < Shares::kLargerParts) {
      finish_step<Shares::kMostColumns>(d_key, d_value, gradients, place);
    } else {
      finish_step<Shares::kLeastColumns>(d_key, d_value, gradients, place);
    }
    tile_.advance();
    score_buffer_.advance();
  }

  /// What is left when dS is shared and dV is under way: dQ, of which the warpgroup has `kColumns`, and dK.
  template <int kColumns>
  __device__ __forceinline__ void finish_step(float (&d_key)[Config::kHeadDim / 2],
                                              float (&d_value)[Config::kValueDim / 2],
                                              uint32 (&gradients)[kPairs / 2], int place) {
    float d_query[kColumns / 2];
    start_d_query<kColumns>(d_query);
    wgmma::wait<1>();
    wgmma::hold(d_value);
    if (leads()) ptx::barrier_arrive(shared_.d_output_empty(tile_.stage));
    start_d_key(d_key, gradients);
    wgmma::wait<1>();
    wgmma::hold(d_query);
    store_sums<kColumns>(d_query);
    hand_over_sums(place);
    wgmma::wait<0>();
    wgmma::hold(d_key);
    if (leads()) ptx::barrier_arrive(shared_.query_empty(tile_.stage));
  }

  /// S^T = K Q^T
  __device__ __forceinline__ void start_scores(float (&scores)[kPairs]) const {
    start_transposed<typename Shared::KeyPanels, typename Shared::QueryPanels>(scores, shared_.key(),
                                                                               shared_.query(tile_.stage));
  }

  /// dP^T = V dO^T
  __device__ __forceinline__ void start_d_probabilities(float (&d_probabilities)[kPairs]) const {
    start_transposed<typename Shared::ValuePanels, typename Shared::OutputPanels>(d_probabilities, shared_.value(),
                                                                                  shared_.d_output(tile_.stage));
  }

  template <class LeftPanels, class RightPanels>
  __device__ __forceinline__ void start_transposed(float (&product)[kPairs], uint32 left_tile,
                                                   uint32 right_tile) const {
    const uint32 left = LeftPanels::k_major(left_tile + thread_.warpgroup * kWarpgroupRows * LeftPanels::kRowBytes);
    const uint32 right = RightPanels::k_major(right_tile);
    wgmma::hold(product);
    wgmma::fence();
#pragma unroll
    for (int panel = 0; panel < LeftPanels::kCount; ++panel) {
#pragma unroll
      for (int i = 0; i < LeftPanels::kPanelColumns / 16; ++i) {
        wgmma::Product<Config::kTileQ, Config::kBFloat16>::shared_shared(
            product, LeftPanels::descriptor(left, panel * LeftPanels::kPanelBytes + 32 * i),
            RightPanels::descriptor(right, panel * RightPanels::kPanelBytes + 32 * i), panel + i > 0);
      }
    }
    wgmma::commit();
  }

  /// Makes P^T of S^T; where the score is not q . k alone, `slopes` becomes its derivative. Returns the tile's place.
  __device__ __forceinline__ int find_probabilities(float (&scores)[kPairs],
                                                    uint32 (&slopes)[Score::kIdentity ? 1 : kPairs / 2],
                                                    const volatile ColumnWork& column) const {
    const volatile QueryTile& tile = *shared_.tile(tile_.stage);
    const uint32 entry = static_cast<uint32>(tile.entry);
    const int first_query = static_cast<int>(entry & kNoBox) * Config::kTileQ + 2 * (thread_.lane & 3);
    const int first_key = column.key_begin + thread_.row();
    if constexpr (!Score::kIdentity) {
      score_column<Config::kTileQ, Config::kBFloat16, Score>(scores, slopes, position_of(params_.arguments, column, tile.head), first_key,
                                          first_query);
    }
    if (tile.partial != 0) {
      mask_column<Mask, Config::kTileQ>(scores, position_of(params_.arguments, column, tile.head), first_key,
                                        first_query, entry >> 24, params_.score_scale, params_.padding_score);
    }
    const uint32 log2_lse = shared_.log2_lse(tile_.stage) + 8 * (thread_.lane & 3);
#pragma unroll
    for (int j = 0; j < kPairs / 4; ++j) {
      const float2 lse = ptx::load_pair(log2_lse + 32 * j);
#pragma unroll
      for (int key = 0; key < 2; ++key) {
        float(&pair)[2] = reinterpret_cast<float(&)[2]>(scores[4 * j + 2 * key]);
        pair[0] = ptx::exp2_fast(pair[0] * params_.score_scale - lse.x);
        pair[1] = ptx::exp2_fast(pair[1] * params_.score_scale - lse.y);
      }
    }
    return tile.place;
  }

  /// dS^T = P^T (dP^T - delta), in place of dP^T.
  __device__ __forceinline__ void find_gradients(float (&d_scores)[kPairs], const float (&probabilities)[kPairs]) const {
    const uint32 delta = shared_.delta(tile_.stage) + 8 * (thread_.lane & 3);
#pragma unroll
    for (int j = 0; j < kPairs / 4; ++j) {
      const float2 deltas = ptx::load_pair(delta + 32 * j);
#pragma unroll
      for (int i = 4 * j; i < 4 * j + 4; i += 2) {
        d_scores[i] = probabilities[i] * (d_scores[i] - deltas.x);
        d_scores[i + 1] = probabilities[i + 1] * (d_scores[i + 1] - deltas.y);
      }
    }
  }

  __device__ __forceinline__ static void pack(uint32 (&packed)[kPairs / 2], const float (&values)[kPairs]) {
#pragma unroll
    for (int i = 0; i < kPairs / 2; ++i) packed[i] = ptx::pack<Config::kBFloat16>(values[2 * i], values[2 * i + 1]);
  }

  __device__ __forceinline__ static void unpack(float (&values)[kPairs], const uint32 (&packed)[kPairs / 2]) {
#pragma unroll
    for (int i = 0; i < kPairs / 2; ++i) {
      const float2 pair = ptx::unpack<Config::kBFloat16>(packed[i]);
      values[2 * i] = pair.x;
      values[2 * i + 1] = pair.y;
    }
  }

  /// Writes dS, queries by keys, to the panel of the warpgroup's keys.
  __device__ __forceinline__ void share_gradients(const uint32 (&gradients)[kPairs / 2]) const {
    using Panels = typename Shared::ScorePanels;
    const int row = (thread_.lane & 7) + 8 * (thread_.lane >> 4);
    const int chunk = 2 * thread_.warp + (thread_.lane >> 3 & 1);
    const uint32 address = shared_.d_scores(score_buffer_.stage) + thread_.warpgroup * Panels::kPanelBytes +
                           Panels::chunk_offset(row, chunk);
#pragma unroll
    for (int i = 0; i < Config::kTileQ / 16; ++i) {
      ptx::store_matrices_transposed(address + i * 16 * Panels::kRowBytes, gradients[4 * i], gradients[4 * i + 1],
                                     gradients[4 * i + 2], gradients[4 * i + 3]);
    }
  }

  /// dV += P^T dO
  __device__ __forceinline__ void start_d_value(float (&d_value)[Config::kValueDim / 2],
                                                uint32 (&probabilities)[kPairs / 2]) const {
    start_sum<typename Shared::OutputPanels, Config::kValueDim>(d_value, probabilities, shared_.d_output(tile_.stage));
  }

  /// dK += dS^T Q
  __device__ __forceinline__ void start_d_key(float (&d_key)[Config::kHeadDim / 2],
                                              uint32 (&gradients)[kPairs / 2]) const {
    start_sum<typename Shared::QueryPanels, Config::kHeadDim>(d_key, gradients, shared_.query(tile_.stage));
  }

  template <class Panels, int kColumns>
  __device__ __forceinline__ void start_sum(float (&sum)[kColumns / 2], uint32 (&left)[kPairs / 2],
                                            uint32 tile) const {
    const uint32 right = Panels::n_major(tile);
    wgmma::hold(left);
    wgmma::hold(sum);
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < Config::kTileQ / 16; ++i) {
      wgmma::Product<kColumns, Config::kBFloat16>::register_shared(
          sum, left[4 * i], left[4 * i + 1], left[4 * i + 2], left[4 * i + 3],
          Panels::descriptor(right, i * 16 * Panels::kRowBytes), 1);
    }
    wgmma::commit();
  }

  /// dQ = dS K, the warpgroup's share of it.
  template <int kColumns>
  __device__ __forceinline__ void start_d_query(float (&d_query)[kColumns / 2]) const {
    using ScorePanels = typename Shared::ScorePanels;
    using KeyPanels = typename Shared::KeyPanels;
    const int block = Shares::block(thread_.warpgroup);
    const int panel = Shares::first_column(thread_.warpgroup) / KeyPanels::kPanelColumns;
    const uint32 d_scores = ScorePanels::k_major(shared_.d_scores(score_buffer_.stage) +
                                                 block * kWarpgroupRows * ScorePanels::kRowBytes);
    const uint32 keys = KeyPanels::n_major(shared_.key() + panel * KeyPanels::kPanelBytes);
    wgmma::hold(d_query);
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < Config::kTileK / 16; ++i) {
      wgmma::Product<kColumns, Config::kBFloat16>::shared_n_major(
          d_query, ScorePanels::descriptor(d_scores, i / 4 * ScorePanels::kPanelBytes + i % 4 * 32),
          KeyPanels::descriptor(keys, i * 16 * KeyPanels::kRowBytes), i > 0);
    }
    wgmma::commit();
  }

  /// Writes the warpgroup's share of dQ to where the reducer takes it from, once that is free.
  template <int kColumns>
  __device__ __forceinline__ void store_sums(const float (&d_query)[kColumns / 2]) const {
    const uint32 address = shared_.sums(thread_.warpgroup) + 16 * (32 * thread_.warp + thread_.lane);
    ptx::barrier_wait(shared_.sums_empty(thread_.warpgroup), sums_.parity);
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      ptx::store_four(address + j * 16 * kWarpgroupThreads, d_query[4 * j], d_query[4 * j + 1], d_query[4 * j + 2],
                      d_query[4 * j + 3]);
    }
    ptx::fence_shared_for_async();
  }

  /// Tells the reducer where the share belongs, or that there are no more.
  __device__ __forceinline__ void hand_over_sums(int place) {
    if (place == Shared::kNoMoreSums) ptx::barrier_wait(shared_.sums_empty(thread_.warpgroup), sums_.parity);
    if (leads()) *shared_.place(thread_.warpgroup) = place;
    ptx::warp_sync();
    if (thread_.lane == 0) ptx::barrier_arrive(shared_.sums_full(thread_.warpgroup));
    sums_.advance();
  }

  __device__ __forceinline__ void store(const float (&d_key)[Config::kHeadDim / 2],
                                        const float (&d_value)[Config::kValueDim / 2],
                                        const volatile ColumnWork& column) const {
    const int slot = column.split_slot;
    if (slot >= 0) {
      store_column_part<Config, Config::kHeadDim>(params_.column_parts, slot, 0, thread_, d_key);
      store_column_part<Config, Config::kValueDim>(params_.column_parts, slot, Config::kHeadDim, thread_, d_value);
    } else {
      store_key_rows<Config, Config::kHeadDim>(params_.d_key_rows, column, thread_, d_key, params_.slope);
      store_key_rows<Config, Config::kValueDim>(params_.d_value_rows, column, thread_, d_value, 1.0f);
    }
  }

  __device__ __forceinline__ void sync_consumers() const {
    ptx::named_barrier_sync(1, kWarpgroupThreads * Config::kConsumers);
  }

  __device__ __forceinline__ bool leads() const { return thread_.warp == 0 && thread_.lane == 0; }

  const BackwardParams& params_;
  const Shared& shared_;
  ConsumerThread thread_;
  StageCursor<Shared::kColumnSlots> column_;
  StageCursor<1> keys_;
  StageCursor<Config::kStages> tile_;
  StageCursor<Shared::kScoreBuffers> score_buffer_;
  StageCursor<1> sums_;
};

}  // namespace harrier
