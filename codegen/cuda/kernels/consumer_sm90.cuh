// A consumer warpgroup: S = Q K^T, softmax, O += P V for its 64 queries, with the products of one tile running while
// another tile's softmax is computed.
#pragma once

#include "codegen/cuda/kernels/epilogue_sm90.cuh"
#include "codegen/cuda/kernels/mask_tile.cuh"
#include "codegen/cuda/kernels/products_sm90.cuh"

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
    bool pending = false;
    while (true) {
      ptx::barrier_wait(shared_.row_full(row_.stage), row_.parity);
      const volatile RowWork& row = *shared_.row(row_.stage);
      const int partial = row.partial_tiles;
      const int tiles = partial + row.full_tiles;
      // However its last product has run, a row is finished in one place: that is much code.
      const bool alone = pending && (tiles <= 0 || !kOverlapRows);
      SoftmaxState fresh;
      if (alone) {
        last_product(output, probabilities);
      } else if (kOverlapRows && tiles > 0) {
        first_step(output, probabilities, fresh, row, partial > 0, pending);
      }
      if (pending) finish(output, state);
      if (alone) release_stored_query();
      if (partial < 0) return;
      pending = tiles > 0;
      if (tiles == 0) {
        store_empty<Config>(params_, row, thread_);
        release_row(row_.stage);
      } else {
        if constexpr (!kOverlapRows) first_step(output, probabilities, fresh, row, partial > 0, false);
        state = fresh;
        int tile = 1;
#pragma unroll 1
        for (; tile < tiles; ++tile) {
          step(output, probabilities, state, row, tile < partial, tile > 1);
          if (tile == 1) release_stored_query();
        }
        pending_adds_ = tiles > 1;
        pending_row_ = row_.stage;
        pending_query_ = query_.stage;
        query_.advance();
      }
      row_.advance();
    }
  }

 private:
  /// One tile: S_i = Q K_i^T and O += P_{i-1} V_{i-1} start together; softmax of S_i runs under the second. One body
  /// for tiles with and without a mask: a second one is no faster and a tenth more to compile. `accumulate` unless P
  /// and V are those of the row's first tile.
  __device__ __forceinline__ void step(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2],
                                       SoftmaxState& state, const volatile RowWork& row, bool partial,
                                       bool accumulate) {
    float scores[kScores];
    float correction[2];
    ptx::barrier_wait(shared_.key_full(key_.stage), key_.parity);
    if constexpr (kPingPong) take_turn();
    start_scores(scores);
    ptx::barrier_wait(shared_.value_full(value_.stage), value_.parity);
    start_output(output, probabilities, accumulate);
    if constexpr (kPingPong) pass_turn(next_warpgroup());
    wgmma::wait<1>();
    wgmma::hold(scores);
    const auto tile = key_;
    finish_scores(scores, row, partial, state);
    const bool raised = softmax_tile(scores, state, correction, params_.score_scale);
    wgmma::wait<0>();
    wgmma::hold(output);
    release_value();
    value_ = tile;
    // P of the previous tile was an operand of the product that has just finished; only now may it be overwritten.
    pack_probabilities<Config::kBFloat16>(probabilities, scores);
    if (raised) scale_rows(output, correction);
  }

  /// The first tile of a row; where Q has two buffers, together with the last product of the row before. If none is
  /// `pending` (the CTA's first row, or one after an empty row), a product of whatever lies in shared memory takes its
  /// place and is thrown away: one body instead of two, since each is a third of the time to compile.
  __device__ __forceinline__ void first_step(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2],
                                             SoftmaxState& fresh, const volatile RowWork& row, bool partial,
                                             bool pending) {
    float scores[kScores];
    float correction[2];
    seen_.find(position_of(params_, row), row.query_begin + thread_.row());
    release_stored_query();
    ptx::barrier_wait(shared_.query_full(query_.stage), query_.parity);
    ptx::barrier_wait(shared_.key_full(key_.stage), key_.parity);
    if constexpr (kPingPong) take_turn();
    start_scores(scores);
    if constexpr (kOverlapRows) {
      if (pending) ptx::barrier_wait(shared_.value_full(value_.stage), value_.parity);
      start_output(output, probabilities, pending_adds_);
    }
    if constexpr (kPingPong) pass_turn(next_warpgroup());
    wgmma::wait<kOverlapRows ? 1 : 0>();
    wgmma::hold(scores);
    const auto tile = key_;
    finish_scores(scores, row, partial, fresh);
    softmax_tile(scores, fresh, correction, params_.score_scale);
    if constexpr (kOverlapRows) {
      wgmma::wait<0>();
      wgmma::hold(output);
      if (pending) release_value();
    }
    value_ = tile;
    pack_probabilities<Config::kBFloat16>(probabilities, scores);
  }

  /// The last product of a row that no other follows.
  __device__ __forceinline__ void last_product(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2]) {
    release_stored_query();
    ptx::barrier_wait(shared_.value_full(value_.stage), value_.parity);
    start_output(output, probabilities, pending_adds_);
    wgmma::wait<0>();
    wgmma::hold(output);
    release_value();
  }

  /// S = Q K^T
  __device__ __forceinline__ void start_scores(float (&scores)[kScores]) {
    using QueryPanels = typename Shared::QueryPanels;
    using KeyPanels = typename Shared::KeyPanels;
    const uint32 query =
        QueryPanels::k_major(shared_.query(query_.stage) + thread_.warpgroup * kWarpgroupRows * QueryPanels::kRowBytes);
    const uint32 key = KeyPanels::k_major(shared_.key(key_.stage));
    wgmma::start_by_columns<Config::kTileK, Config::kBFloat16, QueryPanels, KeyPanels>(scores, query, key);
  }

  /// O += P V, or O = P V for the first tile of a row
  __device__ __forceinline__ void start_output(float (&output)[kOutputs], uint32 (&probabilities)[kScores / 2],
                                               bool accumulate) {
    using Panels = typename Shared::ValuePanels;
    const uint32 value = Panels::n_major(shared_.value(value_.stage));
    wgmma::start_by_rows<Config::kValueDim, Config::kBFloat16, Panels, Config::kTileK>(output, probabilities, value,
                                                                                       accumulate);
  }

  /// Scores as the softmax takes them; then K's buffer, with the boxes that say what it holds, is free.
  __device__ __forceinline__ void finish_scores(float (&scores)[kScores], const volatile RowWork& row, bool partial,
                                                SoftmaxState& state) {
    const volatile int* boxes = shared_.boxes(key_.stage);
    if constexpr (!Score::kIdentity) {
      score_tile<Config, Score>(scores, position_of(params_, row), row.query_begin + thread_.row(), boxes,
                                thread_.lane);
    }
    if (partial) {
      mask_tile<Config, Mask>(scores, position_of(params_, row), row.query_begin + thread_.row(), seen_, boxes,
                              thread_.lane, params_, state.shown);
    }
    ptx::warp_sync();
    if (thread_.lane == 0) ptx::barrier_arrive(shared_.key_empty(key_.stage));
    key_.advance();
  }

  /// V is read by wgmma alone, so one arrival after the wait speaks for the warpgroup.
  __device__ __forceinline__ void release_value() {
    if (leads()) ptx::barrier_arrive(shared_.value_empty(value_.stage));
  }

  /// O /= sum, LSE = m + log(sum), of the pending row.
  __device__ __forceinline__ void finish(float (&output)[kOutputs], SoftmaxState& state) {
    const volatile RowWork& row = *shared_.row(pending_row_);
    const int slot = row.split_slot;
    float factor[2], lse[2];
    finish_row<Config, Mask, Sink>(params_, row, thread_, state, factor, lse);
    scale_rows(output, factor);
    if (slot >= 0) {
      store_split<Config, Mask>(params_, slot, thread_, output, lse, state.shown);
    } else {
      store_output<Config>(params_, shared_, row, thread_, pending_query_, output);
      if ((thread_.lane & 3) == 0) {
        const int query = row.query_begin + thread_.row();
        store_lse(params_, row, query, lse[0] * kLogOf2);
        store_lse(params_, row, query + 8, lse[1] * kLogOf2);
      }
    }
    stored_query_ = static_cast<int>(pending_query_);
    release_row(pending_row_);
  }

  /// Gives the buffer of a finished row's Q back once the store has read it. That takes a while, so it is done late.
  __device__ __forceinline__ void release_stored_query() {
    if (stored_query_ >= 0 && leads()) {
      ptx::wait_stores_read();
      ptx::barrier_arrive(shared_.query_empty(stored_query_));
    }
    stored_query_ = -1;
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
  SeenKeys<Mask> seen_;  // by the queries of the current row
  StageCursor<Config::kStages> key_;
  StageCursor<Config::kStages> value_;  // of the pending product; K and V of a tile lie in equal places of their rings
  StageCursor<Shared::kRowSlots> row_;
  StageCursor<Config::kQueryStages> query_;
  bool pending_adds_ = false;  // the pending product is not the first of its row
  uint32 pending_row_ = 0;     // slot and Q buffer of the row whose last product is still to come
  uint32 pending_query_ = 0;
  int stored_query_ = -1;  // Q buffer that an output store may still be reading; -1 = none
};

}  // namespace harrier
