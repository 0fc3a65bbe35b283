// A consumer warpgroup: S = Q K^T, softmax, O += P V for its 64 queries, with the products of one tile running while
// another tile's softmax is computed.
#pragma once

#include "codegen/cuda/kernels/epilogue_sm90.cuh"
#include "codegen/cuda/kernels/mask_tile.cuh"
#include "codegen/cuda/kernels/wgmma.cuh"

namespace harrier {

template <class Config, class Mask, class Score, class Sink>
class Consumer {
 public:
  using Shared = SharedLayout<Config>;
  static constexpr int kScores = Config::kTileK / 2;
  static constexpr int kOutputs = Config::kValueDim / 2;
  static constexpr bool kOverlapRows = Config::kQueryStages > 1;
  static constexpr bool kPingPong = Config::kPingPong && Config::kConsumers > 1;

  __device__ __forceinline__ Consumer(const ForwardParams& params, const Shared& shared, ConsumerThread thread)
      : params_(params), shared_(shared), thread_(thread) {}

  __device__ __forceinline__ void run() {
    if (kPingPong && thread_.warpgroup == 0) pass_turn(0);
    // A row's last product runs together with the first of the next row, so what it needs outlives the row.
    float output[kOutputs];
    uint32 probabilities[kScores / 2];
    SoftmaxState state;
    while (true) {
      ptx::barrier_wait(shared_.row_full(row_.stage), row_.parity);
      const volatile RowWork& row = *shared_.row(row_.stage);
      const int partial = row.partial_tiles;
      const int tiles = partial + row.full_tiles;
      int tile = 0;
      bool found;
      while (true) {
        found = find_first_tile(tile, tiles);
        if (!pending_ || (found && kOverlapRows)) break;
        drain_row(output, probabilities, state);
      }
      if (partial < 0) return;
      if (found) {
        release_stored_query();
        ptx::barrier_wait(shared_.query_full(query_.stage), query_.parity);
        run_row(output, probabilities, state, row, tile);
        query_.advance();
      } else {
        store_empty<Config>(params_, row, thread_);
        if (tiles > 0) release_unused_query();
        release_row(row_.stage);
      }
      row_.advance();
    }
  }

 private:
  /// The tiles of a row, from the first that is seen.
  __device__ __forceinline__ void run_row(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2],
                                          SoftmaxState& state, const volatile RowWork& row, int tile) {
    const int tiles = row.partial_tiles + row.full_tiles;
    bool first = kOverlapRows;
    if constexpr (!kOverlapRows) {
      state = {};
      clear(output);
      lone_step(output, probabilities, state, row, masks_tile(tile, row.partial_tiles));
      ++tile;
    }
#pragma unroll 1
    for (; tile < tiles; ++tile) {
      if constexpr (Config::kOwnTiles) {
        if (!first && skip_tile(tile)) {
          if (pending_ && ring_is_short()) {
            drain(output, probabilities);
            release_stored_query();  // V of a row's last tile comes after the next Q, which may want that buffer
            release_skipped_values();
          }
          continue;
        }
        if (!first && !pending_) {
          lone_step(output, probabilities, state, row, masks_tile(tile, row.partial_tiles));
          continue;
        }
      }
      step(output, probabilities, state, row, masks_tile(tile, row.partial_tiles), first);
      first = false;
    }
    if (Config::kOwnTiles && !pending_) {
      finish_sums(state);
      finish(output, state, row_.stage, query_.stage);
    }
  }

  /// One tile: S_i = Q K_i^T and O += P_{i-1} V_{i-1} start together; softmax of S_i runs under the second. The first
  /// tile of a row runs beside the last product of the row before, where Q has two buffers. If none is pending, a
  /// product of whatever lies in shared memory takes its place, and what comes of it is thrown away: one body for every
  /// tile, since each more is a third more to compile, and a path without the product would make the compiler serialise
  /// both.
  __device__ __forceinline__ void step(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2],
                                       SoftmaxState& state, const volatile RowWork& row, bool masked, bool first) {
    float scores[kScores];
    float correction[2];
    float stashed = 0.0f;
    SoftmaxState before = state;
    if (kOverlapRows && first) {
      finish_sums(state);
      stashed = stash(state, thread_.lane);
      state = {};
    }
    ptx::barrier_wait(shared_.key_full(key_.stage), key_.parity);
    if constexpr (kPingPong) take_turn();
    start_scores(scores);
    if (pending_) ptx::barrier_wait(shared_.value_full(value_.stage), value_.parity);
    start_output(output, probabilities);
    if constexpr (kPingPong) pass_turn(next_warpgroup());
    wgmma::wait<1>();
    wgmma::hold(scores);
    finish_scores(scores, row, masked, state);
    const bool raised = softmax_tile(scores, state, correction, params_.score_scale);
    wgmma::wait<0>();
    wgmma::hold(output);
    if (pending_) release_value();
    // P of the previous tile was an operand of the product that has just finished; only now may it be overwritten.
    pack_probabilities<Config::kBFloat16>(probabilities, scores);
    if (kOverlapRows && first) {
      if (pending_) {
        const SoftmaxState sums = unstash(stashed, thread_.lane);
        for (int i = 0; i < 2; ++i) {
          before.maximum[i] = sums.maximum[i];
          before.sum[i] = sums.sum[i];
        }
        finish(output, before, row_.before(), query_.before());
      }
      clear(output);
      pending_ = true;
    } else {
      if (raised) scale_rows(output, correction);
      release_stored_query();
    }
  }

  /// A tile beside which no product runs: the first of a row, or the next after a product that was finished early.
  __device__ __forceinline__ void lone_step(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2],
                                            SoftmaxState& state, const volatile RowWork& row, bool masked) {
    float scores[kScores];
    float correction[2];
    ptx::barrier_wait(shared_.key_full(key_.stage), key_.parity);
    if constexpr (kPingPong) take_turn();
    start_scores(scores);
    if constexpr (kPingPong) pass_turn(next_warpgroup());
    wgmma::wait<0>();
    wgmma::hold(scores);
    finish_scores(scores, row, masked, state);
    const bool raised = softmax_tile(scores, state, correction, params_.score_scale);
    pack_probabilities<Config::kBFloat16>(probabilities, scores);
    if (raised) scale_rows(output, correction);
    pending_ = true;
  }

  /// O += P V of the pending tile, with nothing beside it.
  __device__ __forceinline__ void drain(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2]) {
    ptx::barrier_wait(shared_.value_full(value_.stage), value_.parity);
    start_output(output, probabilities);
    wgmma::wait<0>();
    wgmma::hold(output);
    pending_ = false;
    release_value_stage();
  }

  /// The last product of a row that no other follows.
  __device__ __forceinline__ void drain_row(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2],
                                            SoftmaxState& state) {
    drain(output, probabilities);
    release_stored_query();
    finish_sums(state);
    finish(output, state, row_.before(), query_.before());
    release_stored_query();  // before the V of skipped tiles, which may come only after that
    if constexpr (Config::kOwnTiles) release_skipped_values();
  }

  /// Whether the tile has keys that some of this warpgroup's queries see in part.
  __device__ __forceinline__ bool masks_tile(int tile, int partial) const {
    if constexpr (Config::kOwnTiles) return (*shared_.tile_uses(key_.stage) & masked_by(thread_.warpgroup)) != 0;
    return tile < partial;
  }

  /// Whether this warpgroup's queries see a tile of the row; `tile` becomes the first of them. False, too, where it has
  /// to be looked for further on once the pending product is done with.
  __device__ __forceinline__ bool find_first_tile(int& tile, int tiles) {
    if constexpr (!Config::kOwnTiles) return tiles > 0;
    release_stored_query();
    for (; tile < tiles; ++tile) {
      // The producer brings the tile at which it looks ahead only when the Q of the row before is free.
      if (pending_ && (ring_is_short() || tile == Shared::kLookAheadTile)) return false;
      if (!skip_tile(tile)) return true;
    }
    return false;
  }

  /// Passes over the next tile if this warpgroup's queries see nothing of it. Its V comes after that of the pending
  /// tile, so it is released after that.
  __device__ __forceinline__ bool skip_tile(int tile) {
    if (tile >= Shared::kLookAheadTile) release_stored_query();  // the producer wants it before it brings that tile
    ptx::barrier_wait(shared_.key_full(key_.stage), key_.parity);
    if ((*shared_.tile_uses(key_.stage) & seen_by(thread_.warpgroup)) != 0) return false;
    release_key();
    ++skipped_;
    if (!pending_) release_skipped_values();
    return true;
  }

  /// Whether so many tiles were skipped that the pending product has to be finished, lest V's ring runs full.
  __device__ __forceinline__ bool ring_is_short() const { return skipped_ >= Config::kStages / 2; }

  __device__ __forceinline__ void release_skipped_values() {
#pragma unroll 1
    for (; skipped_ > 0; --skipped_) {
      ptx::barrier_wait(shared_.value_full(value_.stage), value_.parity);
      release_value_stage();
    }
  }

  static __device__ __forceinline__ void clear(float (&output)[kOutputs]) {
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) output[i] = 0.0f;
  }

  /// S = Q K^T
  __device__ __forceinline__ void start_scores(float (&scores)[kScores]) {
    using QueryPanels = typename Shared::QueryPanels;
    using KeyPanels = typename Shared::KeyPanels;
    const uint32 query =
        QueryPanels::k_major(shared_.query(query_.stage) + thread_.warpgroup * kWarpgroupRows * QueryPanels::kRowBytes);
    const uint32 key = KeyPanels::k_major(shared_.key(key_.stage));
    wgmma::hold(scores);
    wgmma::fence();
#pragma unroll
    for (int panel = 0; panel < KeyPanels::kCount; ++panel) {
#pragma unroll
      for (int i = 0; i < KeyPanels::kPanelColumns / 16; ++i) {
        wgmma::Product<Config::kTileK, Config::kBFloat16>::shared_shared(
            scores, QueryPanels::descriptor(query, panel * QueryPanels::kPanelBytes + 32 * i),
            KeyPanels::descriptor(key, panel * KeyPanels::kPanelBytes + 32 * i), panel + i > 0);
      }
    }
    wgmma::commit();
  }

  /// O += P V
  __device__ __forceinline__ void start_output(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2]) {
    using Panels = typename Shared::ValuePanels;
    const uint32 value = Panels::n_major(shared_.value(value_.stage));
    wgmma::hold(probabilities);
    wgmma::hold(output);
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < Config::kTileK / 16; ++i) {
      wgmma::Product<Config::kValueDim, Config::kBFloat16>::register_shared(
          output, probabilities[4 * i], probabilities[4 * i + 1], probabilities[4 * i + 2], probabilities[4 * i + 3],
          Panels::descriptor(value, i * 16 * Panels::kRowBytes));
    }
    wgmma::commit();
  }

  /// Scores as the softmax takes them; then K's buffer, with the boxes that say what it holds, is free.
  __device__ __forceinline__ void finish_scores(float (&scores)[kScores], const volatile RowWork& row, bool masked,
                                                SoftmaxState& state) {
    const volatile int* boxes = shared_.boxes(key_.stage);
    if constexpr (!Score::kIdentity) {
      score_tile<Config, Score>(scores, position_of(params_, row), row.query_begin + thread_.row(), boxes,
                                thread_.lane);
    }
    if (masked) {
      mask_tile<Config, Mask>(scores, position_of(params_, row), row.query_begin + thread_.row(), boxes, thread_.lane,
                              params_, state.shown);
    } else if constexpr (Config::kOwnTiles && Mask::kPrunedAsZero) {
      for (int& shown : state.shown) shown += Config::kTileK / 4;  // four threads have a row's keys
    }
    release_key();
  }

  __device__ __forceinline__ void release_key() {
    ptx::warp_sync();
    if (thread_.lane == 0) ptx::barrier_arrive(shared_.key_empty(key_.stage));
    key_.advance();
  }

  /// V of the pending tile, and of those that were skipped since.
  __device__ __forceinline__ void release_value() {
    release_value_stage();
    if constexpr (Config::kOwnTiles) release_skipped_values();
  }

  /// V is read by wgmma alone, so one arrival after the wait speaks for the warpgroup.
  __device__ __forceinline__ void release_value_stage() {
    if (leads()) ptx::barrier_arrive(shared_.value_empty(value_.stage));
    value_.advance();
  }

  /// O /= sum, LSE = m + log(sum), of the row in `row_slot`, whose Q lies in `query_stage`.
  __device__ __forceinline__ void finish(float (&output)[kOutputs], SoftmaxState& state, uint32 row_slot,
                                         uint32 query_stage) {
    const volatile RowWork& row = *shared_.row(row_slot);
    const int slot = row.split_slot;
    float factor[2], lse[2];
    finish_row<Config, Mask, Sink>(params_, row, thread_, state, factor, lse);
    scale_rows(output, factor);
    if (slot >= 0) {
      store_split<Config, Mask>(params_, slot, thread_, output, lse, state.shown);
    } else {
      store_output<Config>(params_, shared_, row, thread_, query_stage, output);
      if ((thread_.lane & 3) == 0) {
        const int query = row.query_begin + thread_.row();
        store_lse(params_, row, query, lse[0] * kLogOf2);
        store_lse(params_, row, query + 8, lse[1] * kLogOf2);
      }
    }
    stored_query_ = static_cast<int>(query_stage);
    release_row(row_slot);
  }

  /// Gives the buffer of a finished row's Q back once the store has read it. That takes a while, so it is done late.
  __device__ __forceinline__ void release_stored_query() {
    if (stored_query_ >= 0 && leads()) {
      ptx::wait_stores_read();
      ptx::barrier_arrive(shared_.query_empty(stored_query_));
    }
    stored_query_ = -1;
  }

  /// Q of a row of which this warpgroup's queries see no tile.
  __device__ __forceinline__ void release_unused_query() {
    ptx::barrier_wait(shared_.query_full(query_.stage), query_.parity);
    if (leads()) ptx::barrier_arrive(shared_.query_empty(query_.stage));
    query_.advance();
  }

  __device__ __forceinline__ void release_row(uint32 slot) {
    ptx::warp_sync();
    if (thread_.lane == 0) ptx::barrier_arrive(shared_.row_empty(slot));
  }

  __device__ __forceinline__ bool leads() const { return thread_.warp == 0 && thread_.lane == 0; }

  // Warpgroups issue their products in turn, so that one's softmax runs under the other's products.
  __device__ __forceinline__ int next_warpgroup() const {
    return thread_.warpgroup + 1 == Config::kConsumers ? 0 : thread_.warpgroup + 1;
  }
  __device__ __forceinline__ void take_turn() const {
    ptx::named_barrier_sync(1 + thread_.warpgroup, 2 * kWarpgroupThreads);
  }
  __device__ __forceinline__ void pass_turn(int warpgroup) const {
    ptx::named_barrier_arrive(1 + warpgroup, 2 * kWarpgroupThreads);
  }

  const ForwardParams& params_;
  const Shared& shared_;
  ConsumerThread thread_;
  StageCursor<Config::kStages> key_;
  StageCursor<Config::kStages> value_;
  StageCursor<Shared::kRowSlots> row_;
  StageCursor<Config::kQueryStages> query_;
  bool pending_ = false;   // the product of the last tile is still to come
  int skipped_ = 0;        // tiles after it that were passed over, whose V is not released yet
  int stored_query_ = -1;  // Q buffer that an output store may still be reading; -1 = none
};

}  // namespace harrier
