// What the consumers of a CTA that works on columns have in common: the products, the arithmetic between them, and what
// becomes of dQ.
//
// Scores are computed transposed, S^T = K Q^T and dP^T = V dO^T, so that P^T and dS^T are in registers what the
// products dV += P^T dO and dK += dS^T Q take from there. Only dQ = dS K needs dS of all keys, through shared memory.
#pragma once

#include "codegen/cuda/kernels/backward_layout_sm90.cuh"
#include "codegen/cuda/kernels/mask_column.cuh"
#include "codegen/cuda/kernels/products_sm90.cuh"
#include "codegen/cuda/kernels/row_results.cuh"
#include "codegen/cuda/kernels/score_column.cuh"

namespace harrier {

/// A warpgroup's place in the streams of columns and of their query tiles.
template <class Config, class Mask, class Score>
struct ColumnStep {
  using Shared = ColumnLayout<Config>;
  using Shares = QueryShares<Config>;
  static constexpr int kPairs = Config::kTileQ / 2;  // of keys and queries, that a thread has of a tile
  static constexpr int kSlopes = Score::kIdentity ? 1 : kPairs / 2;

  const BackwardParams& params;
  const Shared& shared;
  int warpgroup;        // among the consumers
  ConsumerThread keys;  // among those that have keys of their own
  StageCursor<Shared::kColumnSlots> column_slot{};
  StageCursor<1> key_tile{};
  StageCursor<Config::kStages> tile{};
  StageCursor<Shared::kScoreBuffers> score_buffer{};
  StageCursor<1> sums{0, 1};  // starts empty

  __device__ __forceinline__ bool leads() const { return keys.warp == 0 && keys.lane == 0; }
  __device__ __forceinline__ int thread() const { return 32 * keys.warp + keys.lane; }

  /// The next column; K and V are there if it has tiles.
  __device__ __forceinline__ const volatile ColumnWork& take_column() {
    ptx::barrier_wait(shared.column_full(column_slot.stage), column_slot.parity);
    const volatile ColumnWork& column = *shared.column(column_slot.stage);
    if (column.tiles > 0) {
      ptx::barrier_wait(shared.keys_full(), key_tile.parity);
      key_tile.advance();
    }
    return column;
  }

  /// Every product with K and V has been waited for.
  __device__ __forceinline__ void release_keys() const {
    if (leads()) ptx::barrier_arrive(shared.keys_empty());
  }

  __device__ __forceinline__ void release_column() {
    ptx::warp_sync();
    if (keys.lane == 0) ptx::barrier_arrive(shared.column_empty(column_slot.stage));
    column_slot.advance();
  }

  __device__ __forceinline__ void wait_for_query() const {
    ptx::barrier_wait(shared.query_full(tile.stage), tile.parity);
  }
  __device__ __forceinline__ void wait_for_d_output() const {
    ptx::barrier_wait(shared.d_output_full(tile.stage), tile.parity);
  }
  __device__ __forceinline__ void release_query(uint32 stage) const {
    if (leads()) ptx::barrier_arrive(shared.query_empty(stage));
  }
  __device__ __forceinline__ void release_d_output(uint32 stage) const {
    if (leads()) ptx::barrier_arrive(shared.d_output_empty(stage));
  }

  __device__ __forceinline__ void advance() {
    tile.advance();
    score_buffer.advance();
  }

  /// What add_d_query is told of the tile: see QueryTile. Deterministic kernels, which have to say more of it and have
  /// no more registers, name the buffer where that lies. Not to be read once the warpgroup has released Q.
  __device__ __forceinline__ int place() const {
    if constexpr (Config::kDeterministic) {
      return static_cast<int>(tile.stage);
    } else {
      return shared.tile(tile.stage)->place;
    }
  }

  /// Joins all consumers.
  __device__ __forceinline__ void sync_consumers() const {
    ptx::named_barrier_sync(1, kWarpgroupThreads * Config::kConsumers);
  }

  /// S^T = K Q^T
  __device__ __forceinline__ void start_scores(float (&scores)[kPairs]) const {
    start_transposed<typename Shared::KeyPanels, typename Shared::QueryPanels>(scores, shared.key(),
                                                                               shared.query(tile.stage));
  }

  /// dP^T = V dO^T
  __device__ __forceinline__ void start_d_probabilities(float (&d_probabilities)[kPairs]) const {
    start_transposed<typename Shared::ValuePanels, typename Shared::OutputPanels>(d_probabilities, shared.value(),
                                                                                  shared.d_output(tile.stage));
  }

  template <class LeftPanels, class RightPanels>
  __device__ __forceinline__ void start_transposed(float (&product)[kPairs], uint32 left_tile,
                                                   uint32 right_tile) const {
    const uint32 left = LeftPanels::k_major(left_tile + keys.warpgroup * kWarpgroupRows * LeftPanels::kRowBytes);
    const uint32 right = RightPanels::k_major(right_tile);
    wgmma::start_by_columns<Config::kTileQ, Config::kBFloat16, LeftPanels, RightPanels>(product, left, right);
  }

  /// Makes P^T of S^T; where the score is not q . k alone, `slopes` becomes its derivative. Returns the tile's place.
  __device__ __forceinline__ int find_probabilities(float (&scores)[kPairs], uint32 (&slopes)[kSlopes],
                                                    const volatile ColumnWork& column) const {
    const volatile QueryTile& query_tile = *shared.tile(tile.stage);
    const uint32 entry = static_cast<uint32>(query_tile.entry);
    const int first_query = static_cast<int>(entry & kNoBox) * Config::kTileQ + 2 * (keys.lane & 3);
    const int first_key = column.key_begin + keys.row();
    if constexpr (!Score::kIdentity) {
      score_column<Config::kTileQ, Config::kBFloat16, Score>(
          scores, slopes, position_of(params.arguments, column, query_tile.head), first_key, first_query);
    }
    if (query_tile.partial != 0) {
      mask_column<Mask, Config::kTileQ>(scores, position_of(params.arguments, column, query_tile.head), first_key,
                                        first_query, entry >> 24, params.score_scale, params.padding_score);
    }
    const uint32 log2_lse = shared.log2_lse(tile.stage) + 8 * (keys.lane & 3);
#pragma unroll
    for (int j = 0; j < kPairs / 4; ++j) {
      const float2 lse = ptx::load_pair(log2_lse + 32 * j);
#pragma unroll
      for (int key = 0; key < 2; ++key) {
        float(&pair)[2] = reinterpret_cast<float(&)[2]>(scores[4 * j + 2 * key]);
        pair[0] = probability(pair[0], params.score_scale, lse.x);
        pair[1] = probability(pair[1], params.score_scale, lse.y);
      }
    }
    return place();
  }

  /// dS^T = P^T (dP^T - delta), in place of dP^T.
  __device__ __forceinline__ void find_gradients(float (&d_scores)[kPairs],
                                                 const float (&probabilities)[kPairs]) const {
    const uint32 delta = shared.delta(tile.stage) + 8 * (keys.lane & 3);
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
    const int row = (keys.lane & 7) + 8 * (keys.lane >> 4);
    const int chunk = 2 * keys.warp + (keys.lane >> 3 & 1);
    const uint32 address =
        shared.d_scores(score_buffer.stage) + keys.warpgroup * Panels::kPanelBytes + Panels::chunk_offset(row, chunk);
#pragma unroll
    for (int i = 0; i < Config::kTileQ / 16; ++i) {
      ptx::store_matrices_transposed(address + i * 16 * Panels::kRowBytes, gradients[4 * i], gradients[4 * i + 1],
                                     gradients[4 * i + 2], gradients[4 * i + 3]);
    }
  }

  /// dV += P^T dO
  __device__ __forceinline__ void start_d_value(float (&d_value)[Config::kValueDim / 2],
                                                uint32 (&probabilities)[kPairs / 2]) const {
    start_sum<typename Shared::OutputPanels, Config::kValueDim>(d_value, probabilities, shared.d_output(tile.stage));
  }

  /// dK += dS^T Q
  __device__ __forceinline__ void start_d_key(float (&d_key)[Config::kHeadDim / 2],
                                              uint32 (&gradients)[kPairs / 2]) const {
    start_sum<typename Shared::QueryPanels, Config::kHeadDim>(d_key, gradients, shared.query(tile.stage));
  }

  template <class Panels, int kColumns>
  __device__ __forceinline__ void start_sum(float (&sum)[kColumns / 2], uint32 (&left)[kPairs / 2],
                                            uint32 right_tile) const {
    const uint32 right = Panels::n_major(right_tile);
    wgmma::start_by_rows<kColumns, Config::kBFloat16, Panels, Config::kTileQ>(sum, left, right, true);
  }

  /// dQ = dS K: of the warpgroup's share of it, columns `first` and up.
  template <int kColumns>
  __device__ __forceinline__ void start_d_query(float (&d_query)[kColumns / 2], int first) const {
    using ScorePanels = typename Shared::ScorePanels;
    using KeyPanels = typename Shared::KeyPanels;
    const int block = Shares::block(warpgroup);
    const int panel = (Shares::first_column(warpgroup) + first) / KeyPanels::kPanelColumns;
    const uint32 d_scores =
        ScorePanels::k_major(shared.d_scores(score_buffer.stage) + block * kWarpgroupRows * ScorePanels::kRowBytes);
    const uint32 keys = KeyPanels::n_major(shared.key() + panel * KeyPanels::kPanelBytes);
    wgmma::start_by_columns_and_rows<kColumns, Config::kBFloat16, ScorePanels, KeyPanels, Config::kTileK>(
        d_query, d_scores, keys);
  }

  /// Adds the same columns to the sums: through shared memory and the reducer where there is room, else from here. In
  /// deterministic kernels Q is still there.
  template <int kColumns>
  __device__ __forceinline__ void add_d_query(const float (&d_query)[kColumns / 2], int first, int place) {
    if constexpr (Shared::kSumsInShared) {
      const uint32 address = shared.sums(warpgroup) + 16 * thread();
      ptx::barrier_wait(shared.sums_empty(warpgroup), sums.parity);
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j) {
        ptx::store_four(address + j * 16 * kWarpgroupThreads, d_query[4 * j], d_query[4 * j + 1], d_query[4 * j + 2],
                        d_query[4 * j + 3]);
      }
      ptx::fence_shared_for_async();
      hand_over_sums(place);
    } else if constexpr (Config::kDeterministic) {
      if (first == 0) wait_for_turn(place);
      add_from_registers<kColumns>(d_query, first, shared.tile(place)->place);
      if (first + kColumns == Shares::columns(warpgroup)) pass_turn(place);
    } else {
      add_from_registers<kColumns>(d_query, first, place);
    }
  }

  template <int kColumns>
  __device__ __forceinline__ void add_from_registers(const float (&d_query)[kColumns / 2], int first, int place) const {
    float* address = params.d_query_sums + static_cast<int64>(place) * (Config::kTileQ * Config::kHeadDim) +
                     Shares::first_number(warpgroup) + kWarpgroupRows * first + 4 * thread();
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      ptx::add_four(address + j * 4 * kWarpgroupThreads, d_query[4 * j], d_query[4 * j + 1], d_query[4 * j + 2],
                    d_query[4 * j + 3]);
    }
  }

  // The turns of deterministic kernels, where a warpgroup adds by itself: see query_reducer_sm90.cuh.

  __device__ __forceinline__ uint32* turn_of(int place) const {
    return params.turns + static_cast<int64>(shared.tile(place)->place) * Config::kConsumers + warpgroup;
  }
  __device__ __forceinline__ void join_warpgroup() const {
    constexpr int kFirstBarrier = 3;
    ptx::named_barrier_sync(kFirstBarrier + warpgroup, kWarpgroupThreads);
  }
  __device__ __forceinline__ void wait_for_turn(int place) const {
    if (leads()) ptx::wait_for_turn(turn_of(place), shared.tile(place)->turn);
    join_warpgroup();
  }
  __device__ __forceinline__ void pass_turn(int place) const {
    ptx::fence_device();
    join_warpgroup();
    if (leads()) ptx::pass_turn(turn_of(place));
  }

  /// Tells the reducer that there are no more.
  __device__ __forceinline__ void finish_sums() {
    if (Shared::kSumsInShared && warpgroup < Shares::kSharers) {
      ptx::barrier_wait(shared.sums_empty(warpgroup), sums.parity);
      hand_over_sums(Shared::kNoMoreSums);
    }
  }

  __device__ __forceinline__ void hand_over_sums(int place) {
    if (leads()) {
      if constexpr (Config::kDeterministic) {
        const bool more = place != Shared::kNoMoreSums;
        if (more) shared.place(warpgroup)->turn = shared.tile(place)->turn;
        if (more) place = shared.tile(place)->place;
        shared.place(warpgroup)->place = place;
      } else {
        *shared.place(warpgroup) = place;
      }
    }
    ptx::warp_sync();
    if (keys.lane == 0) ptx::barrier_arrive(shared.sums_full(warpgroup));
    sums.advance();
  }
};

}  // namespace harrier
