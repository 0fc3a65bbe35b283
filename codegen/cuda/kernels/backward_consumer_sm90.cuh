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
#pragma unroll 1
      for (int tile = 0; tile < tiles; ++tile) work_on_tile(d_key, d_value, column);
      if (tiles > 0) step_.release_keys();
      store_d_key<Config>(step_.params, column, step_.keys, d_key);
      store_d_value<Config>(step_.params, column, step_.keys, d_value);
      step_.release_column();
    }
    step_.finish_sums();
  }

 private:
  __device__ __forceinline__ void work_on_tile(float (&d_key)[Config::kHeadDim / 2],
                                               float (&d_value)[Config::kValueDim / 2],
                                               const volatile ColumnWork& column) {
    float scores[kPairs];
    float d_scores[kPairs];
    uint32 probabilities[kPairs / 2];
    uint32 gradients[kPairs / 2];
    uint32 slopes[Step::kSlopes];

    step_.wait_for_query();
    step_.start_scores(scores);
    if constexpr (Score::kIdentity) {
      step_.wait_for_d_output();
      step_.start_d_probabilities(d_scores);
      wgmma::wait<1>();
    } else {
      wgmma::wait<0>();  // slopes take the registers of dP
    }
    wgmma::hold(scores);
    const int place = step_.find_probabilities(scores, slopes, column);
    Step::pack(probabilities, scores);
    if constexpr (!Score::kIdentity) {
      apply_slopes<Config::kBFloat16>(scores, slopes);
      Step::pack(gradients, scores);  // to be multiplied by dP - delta; fp32 would not fit beside dP
      step_.wait_for_d_output();
      step_.start_d_probabilities(d_scores);
    }
    wgmma::wait<0>();
    wgmma::hold(d_scores);
    if constexpr (!Score::kIdentity) Step::unpack(scores, gradients);
    step_.find_gradients(d_scores, scores);
    Step::pack(gradients, d_scores);

    if constexpr (Shared::kScoreBuffers == 1) step_.sync_consumers();  // dQ of the tile before has read it
    step_.share_gradients(gradients);
    step_.start_d_value(d_value, probabilities);
    ptx::fence_shared_for_async();
    step_.sync_consumers();
    // Branches that differ in the width of a product hold all that runs beside it.
    if constexpr (Shares::kLargerParts == 0) {
      finish_tile<Shares::kMostColumns>(d_key, d_value, gradients, place);
    } else if (Shares::part(step_.warpgroup) < Shares::kLargerParts) {
      finish_tile<Shares::kMostColumns>(d_key, d_value, gradients, place);
    } else {
      finish_tile<Shares::kLeastColumns>(d_key, d_value, gradients, place);
    }
    step_.advance();
  }

  /// What is left when dS is shared and dV is under way: dQ, of which the warpgroup has `kColumns`, and dK.
  template <int kColumns>
  __device__ __forceinline__ void finish_tile(float (&d_key)[Config::kHeadDim / 2],
                                              float (&d_value)[Config::kValueDim / 2], uint32 (&gradients)[kPairs / 2],
                                              int place) {
    float d_query[larger(kColumns / 2, 1)];
    if constexpr (kColumns > 0) step_.template start_d_query<kColumns>(d_query, 0);
    wgmma::wait<kColumns == 0 ? 0 : 1>();
    wgmma::hold(d_value);
    step_.release_d_output();
    step_.start_d_key(d_key, gradients);
    if constexpr (kColumns > 0) {
      wgmma::wait<1>();
      wgmma::hold(d_query);
      step_.template add_d_query<kColumns>(d_query, 0, place);
    }
    wgmma::wait<0>();
    wgmma::hold(d_key);
    step_.release_query();
  }

  Step step_;
};

}  // namespace harrier
