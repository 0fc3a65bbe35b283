// A consumer warpgroup that has 64 keys of a column: their dK and dV, and its share of dQ of every query tile.
#pragma once

#include "codegen/cuda/kernels/backward_step_sm90.cuh"
#include "codegen/cuda/kernels/column_results.cuh"

namespace harrier {

template <class Config, class Mask, class Score>
class ColumnConsumer {
 public:
  using Step = ColumnStep<Config, Mask, Score>;
  using Shared = typename Step::Shared;
  using Shares = typename Step::Shares;
  static constexpr int kPairs = Step::kPairs;

  __device__ __forceinline__ ColumnConsumer(const BackwardParams& params, const Shared& shared, ConsumerThread thread)
      : step_{params, shared, thread.warpgroup, thread} {}

  __device__ __forceinline__ void run() {
    float d_key[Config::kHeadDim / 2];
    float d_value[Config::kValueDim / 2];
    while (true) {
      const volatile ColumnWork& column = step_.take_column();
      const int tiles = column.tiles;
      if (tiles < 0) break;
#pragma unroll
      for (float& sum : d_key) sum = 0.0f;
#pragma unroll
      for (float& sum : d_value) sum = 0.0f;
      if (tiles > 0) work_on_tiles(d_key, d_value, column, tiles);
      store_d_key<Config>(step_.params, column, step_.keys, d_key);
      store_d_value<Config>(step_.params, column, step_.keys, d_value);
      step_.release_column();
    }
    step_.finish_sums();
  }

 private:
  // Products start as early as their operands are there and registers are: dV before dS is computed, S of a tile beside
  // dK of the one before. What is live beside the sums of dK and dV then:
  static constexpr int kSums = (Config::kHeadDim + Config::kValueDim) / 2;
  static constexpr int kSpareRegisters = Config::kConsumerRegisters - 24 - kSums;
  static constexpr bool kEarlyValue = kPairs + kPairs + kPairs / 2 + 8 < kSpareRegisters;  // P, dP, P in 16 bits
  static constexpr bool kEarlyScores =
      Config::kStages > 1 && kPairs + kPairs / 2 + Shares::kMostColumns / 2 <= kSpareRegisters;  // S, dS in 16 bits, dQ

  __device__ __forceinline__ void work_on_tiles(float (&d_key)[Config::kHeadDim / 2],
                                                float (&d_value)[Config::kValueDim / 2],
                                                const volatile ColumnWork& column, int tiles) {
    float scores[kPairs];
    if constexpr (kEarlyScores) {
      step_.wait_for_query();
      step_.start_scores(scores);
      wgmma::wait<0>();
      wgmma::hold(scores);
    }
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      uint32 gradients[kPairs / 2];
      const int place = start_tile(scores, gradients, d_value, column);
      const bool last = tile + 1 == tiles;
      // Branches that differ in the width of a product hold all that runs beside it.
      if constexpr (Shares::kLargerParts == 0) {
        finish_tile<Shares::kMostColumns>(scores, gradients, d_key, d_value, place, last);
      } else if (Shares::part(step_.warpgroup) < Shares::kLargerParts) {
        finish_tile<Shares::kMostColumns>(scores, gradients, d_key, d_value, place, last);
      } else {
        finish_tile<Shares::kLeastColumns>(scores, gradients, d_key, d_value, place, last);
      }
    }
    step_.release_keys();
  }

  /// From S to dS, which all warpgroups have shared when this returns. dV is under way then. Returns the tile's place.
  __device__ __forceinline__ int start_tile(float (&scores)[kPairs], uint32 (&gradients)[kPairs / 2],
                                            float (&d_value)[Config::kValueDim / 2],
                                            const volatile ColumnWork& column) {
    float d_scores[kPairs];
    uint32 probabilities[kPairs / 2];
    uint32 slopes[Step::kSlopes];
    if constexpr (!kEarlyScores) {
      step_.wait_for_query();
      step_.start_scores(scores);
    }
    if constexpr (Score::kIdentity) {
      step_.wait_for_d_output();
      step_.start_d_probabilities(d_scores);
    }
    if constexpr (!kEarlyScores) {
      wgmma::wait<Score::kIdentity ? 1 : 0>();
      wgmma::hold(scores);
    }
    const int place = step_.find_probabilities(scores, slopes, column);
    Step::pack(probabilities, scores);
    if constexpr (!Score::kIdentity) {
      apply_slopes<Config::kBFloat16>(scores, slopes);
      Step::pack(gradients, scores);  // to be multiplied by dP - delta; fp32 would not fit beside dP,
      step_.wait_for_d_output();      // which has had to wait, as slopes took its registers
      step_.start_d_probabilities(d_scores);
    }
    if constexpr (kEarlyValue) step_.start_d_value(d_value, probabilities);
    wgmma::wait<kEarlyValue ? 1 : 0>();
    wgmma::hold(d_scores);
    if constexpr (!Score::kIdentity) Step::unpack(scores, gradients);
    step_.find_gradients(d_scores, scores);
    Step::pack(gradients, d_scores);
    if constexpr (Shared::kScoreBuffers == 1) step_.sync_consumers();  // dQ of the tile before has read it
    step_.share_gradients(gradients);
    if constexpr (!kEarlyValue) step_.start_d_value(d_value, probabilities);
    ptx::fence_shared_for_async();
    step_.sync_consumers();
    return place;
  }

  /// dQ, of which the warpgroup has `kColumns`, and dK; and S of the next tile, where that is early. After the last
  /// tile a product of whatever lies in shared memory takes its place and is thrown away: a branch would end the
  /// overlap.
  template <int kColumns>
  __device__ __forceinline__ void finish_tile(float (&scores)[kPairs], uint32 (&gradients)[kPairs / 2],
                                              float (&d_key)[Config::kHeadDim / 2],
                                              float (&d_value)[Config::kValueDim / 2], int place, bool last) {
    float d_query[larger(kColumns / 2, 1)];
    const uint32 stage = step_.tile.stage;
    if constexpr (kColumns > 0) step_.template start_d_query<kColumns>(d_query, 0);
    wgmma::wait<kColumns == 0 ? 0 : 1>();
    wgmma::hold(d_value);
    step_.release_d_output(stage);
    step_.start_d_key(d_key, gradients);
    step_.advance();
    if constexpr (kEarlyScores) {
      if (!last) step_.wait_for_query();
      step_.start_scores(scores);
    }
    if constexpr (kColumns > 0) {
      wgmma::wait<kEarlyScores ? 2 : 1>();
      wgmma::hold(d_query);
      step_.template add_d_query<kColumns>(d_query, 0, place);
    }
    wgmma::wait<0>();
    wgmma::hold(d_key);
    if constexpr (kEarlyScores) wgmma::hold(scores);
    step_.release_query(stage);
  }

  Step step_;
};

}  // namespace harrier
