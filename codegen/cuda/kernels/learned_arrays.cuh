// Gradients of the float arrays that a score reads: every pair adds to the elements that it loaded.
//
// A load whose index is the same for all queries is summed over a column first, one whose index is the same for all
// keys over the keys of a warp. Sums meet in memory as they come, so their last bits may differ from run to run.
#pragma once

#include "codegen/cuda/kernels/backward_params.cuh"
#include "codegen/cuda/kernels/pattern.cuh"
#include "codegen/cuda/kernels/ptx.cuh"

namespace harrier {

/// What the element of a load depends on, beside head and sequence.
enum class LoadScope { kPair, kQuery, kKey, kHead };

/// The loads of a score. A generated load has kSlot, its array's slot; kScope; place(at, query, key), the element that
/// a pair loads; slope(at, dot, query, key), that of the score in it.
template <class... Loads>
struct LearnedArrays {};

/// What one load gains from a thread's two keys, which are 8 apart.
template <class Load>
class LoadSum {
 public:
  /// The gradients of the scores of a tile: element i is of query `query` + 8 (i / 4) + i % 2 and of key i / 2 % 2.
  /// Pairs of weight 0 are hidden. All lanes of a warp.
  template <int kCount>
  __device__ __forceinline__ void add(const BackwardParams& params, const Position& at, int key, int query, int lane,
                                      const float (&dots)[kCount], const float (&weights)[kCount],
                                      const float (&gradients)[kCount]) {
    float* array = params.d_arrays[Load::kSlot];
    if (array == nullptr) return;
#pragma unroll
    for (int column = 0; column < kCount / 2; ++column) {
      const int at_query = query + 8 * (column / 2) + column % 2;
      float shares[2];
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const int i = 4 * (column / 2) + 2 * row + column % 2, at_key = key + 8 * row;
        shares[row] = weights[i] == 0.0f ? 0.0f : gradients[i] * Load::slope(at, dots[i], at_query, at_key);
        if constexpr (Load::kScope == LoadScope::kPair) {
          if (weights[i] != 0.0f) atomicAdd(array + Load::place(at, at_query, at_key), shares[row]);
        } else if constexpr (Load::kScope != LoadScope::kQuery) {
          sums_[row] += shares[row];
        }
      }
      if constexpr (Load::kScope == LoadScope::kQuery) {
        float sum = shares[0] + shares[1];
#pragma unroll
        for (int lanes = 4; lanes < 32; lanes *= 2) sum += ptx::exchange(sum, lanes);
        if (lane < 4 && at_query < at.query_length) atomicAdd(array + Load::place(at, at_query, 0), sum);
      }
    }
  }

  /// Adds what was summed over the queries of a head, and starts anew. All lanes of a warp.
  __device__ __forceinline__ void finish(const BackwardParams& params, const Position& at, int key, int lane) {
    float* array = params.d_arrays[Load::kSlot];
    if (array == nullptr) return;
    if constexpr (Load::kScope == LoadScope::kKey) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        float sum = sums_[row];
        sum += ptx::exchange(sum, 1);
        sum += ptx::exchange(sum, 2);
        const bool real = key + 8 * row < at.key_length;
        if ((lane & 3) == 0 && real) atomicAdd(array + Load::place(at, 0, key + 8 * row), sum);
      }
    } else if constexpr (Load::kScope == LoadScope::kHead) {
      float sum = sums_[0] + sums_[1];
#pragma unroll
      for (int lanes = 16; lanes > 0; lanes /= 2) sum += ptx::exchange(sum, lanes);
      if (lane == 0) atomicAdd(array + Load::place(at, 0, 0), sum);
    }
    sums_[0] = sums_[1] = 0.0f;
  }

 private:
  float sums_[2] = {0.0f, 0.0f};
};

template <class Learned>
class LearnedSums;

/// All of them, one load after the other.
template <>
class LearnedSums<LearnedArrays<>> {
 public:
  template <int kCount>
  __device__ __forceinline__ void add(const BackwardParams&, const Position&, int, int, int, const float (&)[kCount],
                                      const float (&)[kCount], const float (&)[kCount]) {}
  __device__ __forceinline__ void finish(const BackwardParams&, const Position&, int, int) {}
};

template <class First, class... Others>
class LearnedSums<LearnedArrays<First, Others...>> : public LearnedSums<LearnedArrays<Others...>> {
 public:
  using Rest = LearnedSums<LearnedArrays<Others...>>;

  template <int kCount>
  __device__ __forceinline__ void add(const BackwardParams& params, const Position& at, int key, int query, int lane,
                                      const float (&dots)[kCount], const float (&weights)[kCount],
                                      const float (&gradients)[kCount]) {
    first_.add(params, at, key, query, lane, dots, weights, gradients);
    Rest::add(params, at, key, query, lane, dots, weights, gradients);
  }

  __device__ __forceinline__ void finish(const BackwardParams& params, const Position& at, int key, int lane) {
    first_.finish(params, at, key, lane);
    Rest::finish(params, at, key, lane);
  }

 private:
  LoadSum<First> first_;
};

}  // namespace harrier
