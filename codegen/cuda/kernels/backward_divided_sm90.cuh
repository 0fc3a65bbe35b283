// Consumers of a CTA whose column has 64 keys with more columns of dK and dV than one warpgroup's registers hold: one
// warpgroup makes S, P and dV, the other dP, dS and dK, and each its share of dQ.
#pragma once

#include "codegen/cuda/kernels/backward_step_sm90.cuh"
#include "codegen/cuda/kernels/column_results.cuh"

namespace harrier {

template <class Config, class Mask, class Score>
class DividedConsumer {
 public:
  using Step = ColumnStep<Config, Mask, Score>;
  using Shared = typename Step::Shared;
  using Shares = typename Step::Shares;
  static constexpr int kPairs = Step::kPairs;

  __device__ __forceinline__ DividedConsumer(const BackwardParams& params, const Shared& shared, ConsumerThread thread)
      : step_{params, shared, thread.warpgroup, {0, thread.warp, thread.lane}} {}

  __device__ __forceinline__ void run() {
    if (step_.warpgroup == 0) {
      make_d_value();
    } else {
      make_d_key();
    }
    step_.finish_sums();
  }

 private:
  static constexpr int kProbabilitiesBarrier = 2;
  static constexpr int kThreads = 2 * kWarpgroupThreads;

  __device__ __forceinline__ void make_d_value() {
    float d_value[Config::kValueDim / 2];
    while (true) {
      const volatile ColumnWork& column = step_.take_column();
      const int tiles = column.tiles;
      if (tiles < 0) break;
#pragma unroll
      for (float& sum : d_value) sum = 0.0f;
#pragma unroll 1
      for (int tile = 0; tile < tiles; ++tile) add_d_value(d_value, column);
      if (tiles > 0) step_.release_keys();
      store_d_value<Config>(step_.params, column, step_.keys, d_value);
      step_.release_column();
    }
  }

  __device__ __forceinline__ void make_d_key() {
    float d_key[Config::kHeadDim / 2];
    while (true) {
      const volatile ColumnWork& column = step_.take_column();
      const int tiles = column.tiles;
      if (tiles < 0) break;
#pragma unroll
      for (float& sum : d_key) sum = 0.0f;
#pragma unroll 1
      for (int tile = 0; tile < tiles; ++tile) add_d_key(d_key);
      if (tiles > 0) step_.release_keys();
      store_d_key<Config>(step_.params, column, step_.keys, d_key);
      step_.release_column();
    }
  }

  /// One query tile of the first warpgroup.
  __device__ __forceinline__ void add_d_value(float (&d_value)[Config::kValueDim / 2],
                                              const volatile ColumnWork& column) {
    float scores[kPairs];
    uint32 probabilities[kPairs / 2];
    uint32 factors[kPairs / 2];  // of dP - delta in dS
    uint32 slopes[Step::kSlopes];
    step_.wait_for_query();
    step_.start_scores(scores);
    wgmma::wait<0>();
    wgmma::hold(scores);
    const int place = step_.find_probabilities(scores, slopes, column);
    Step::pack(probabilities, scores);
    if constexpr (!Score::kIdentity) apply_slopes<Config::kBFloat16>(scores, slopes);
    Step::pack(factors, scores);
    store_factors(factors);
    ptx::named_barrier_arrive(kProbabilitiesBarrier, kThreads);
    step_.wait_for_d_output();
    step_.start_d_value(d_value, probabilities);
    step_.sync_consumers();  // dS is there, and the factors were read
    if constexpr (!Config::kDeterministic) step_.release_query(step_.tile.stage);
    make_d_query<Shares::kMostColumns>(place, [&] {
      wgmma::wait<1>();
      wgmma::hold(d_value);
      step_.release_d_output(step_.tile.stage);
      wgmma::wait<0>();
    });
    // See ColumnStep::place. The other warpgroup has its dK to add until about now.
    if constexpr (Config::kDeterministic) step_.release_query(step_.tile.stage);
    step_.advance();
  }

  /// One query tile of the second warpgroup.
  __device__ __forceinline__ void add_d_key(float (&d_key)[Config::kHeadDim / 2]) {
    float d_scores[kPairs];
    float factors[kPairs];
    uint32 gradients[kPairs / 2];
    step_.wait_for_d_output();
    step_.start_d_probabilities(d_scores);
    wgmma::wait<0>();
    wgmma::hold(d_scores);
    ptx::named_barrier_sync(kProbabilitiesBarrier, kThreads);
    load_factors(factors);
    step_.find_gradients(d_scores, factors);
    Step::pack(gradients, d_scores);
    // The first warpgroup has come to the barrier above, so it has multiplied what lay here.
    step_.share_gradients(gradients);
    ptx::fence_shared_for_async();
    step_.sync_consumers();
    step_.release_d_output(step_.tile.stage);
    step_.wait_for_query();
    const int place = step_.place();
    if constexpr (Shares::kLeastColumns > 0) {
      make_d_query<Shares::kLeastColumns>(place, [&] {
        step_.start_d_key(d_key, gradients);
        wgmma::wait<1>();
      });
    } else {
      step_.start_d_key(d_key, gradients);
    }
    wgmma::wait<0>();
    wgmma::hold(d_key);
    step_.release_query(step_.tile.stage);
    step_.advance();
  }

  /// The warpgroup's share of dQ, `kColumns` of it, in passes that fit the registers. `beside` runs beside the first
  /// product and waits for it.
  template <int kColumns, class Beside>
  __device__ __forceinline__ void make_d_query(int place, Beside beside) {
    constexpr int kPass = Shared::kSumsInShared || kColumns % 128 != 0 ? kColumns : 64;
#pragma unroll
    for (int first = 0; first < kColumns; first += kPass) {
      float d_query[kPass / 2];
      step_.template start_d_query<kPass>(d_query, first);
      if (first == 0) {
        beside();
      } else {
        wgmma::wait<0>();
      }
      wgmma::hold(d_query);
      step_.template add_d_query<kPass>(d_query, first, place);
    }
  }

  /// Both warpgroups' threads have the same pairs of keys and queries, so what one stores it loads for the other.
  __device__ __forceinline__ void store_factors(const uint32 (&factors)[kPairs / 2]) const {
    const uint32 address = step_.shared.factors() + 16 * step_.thread();
#pragma unroll
    for (int i = 0; i < kPairs / 8; ++i) {
      ptx::store_four(address + i * 16 * kWarpgroupThreads, __uint_as_float(factors[4 * i]),
                      __uint_as_float(factors[4 * i + 1]), __uint_as_float(factors[4 * i + 2]),
                      __uint_as_float(factors[4 * i + 3]));
    }
  }

  __device__ __forceinline__ void load_factors(float (&factors)[kPairs]) const {
    const uint32 address = step_.shared.factors() + 16 * step_.thread();
#pragma unroll
    for (int i = 0; i < kPairs / 4; ++i) {
      const float2 words = ptx::load_pair(address + i / 2 * 16 * kWarpgroupThreads + i % 2 * 8);
      const float2 low = ptx::unpack<Config::kBFloat16>(__float_as_uint(words.x));
      const float2 high = ptx::unpack<Config::kBFloat16>(__float_as_uint(words.y));
      factors[4 * i] = low.x;
      factors[4 * i + 1] = low.y;
      factors[4 * i + 2] = high.x;
      factors[4 * i + 3] = high.y;
    }
  }

  Step step_;
};

}  // namespace harrier
