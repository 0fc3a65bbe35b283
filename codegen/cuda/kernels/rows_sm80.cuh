// The rows of a CTA: S = Q K^T, softmax, O += P V, each warp for its 16 queries, while copies bring the next tile.
#pragma once

#include "codegen/cuda/kernels/epilogue_sm80.cuh"
#include "codegen/cuda/kernels/loader_sm80.cuh"
#include "codegen/cuda/kernels/mask_tile.cuh"

namespace harrier {

/// Four accumulators of a product.
template <int kCount>
__device__ __forceinline__ float (&accumulators(float (&all)[kCount], int first))[4] {
  return reinterpret_cast<float(&)[4]>(all[first]);
}

template <class Config, class Mask, class Score, class Sink>
class RowsSm80 {
 public:
  using Loader = LoaderSm80<Config, Mask>;
  using Shared = SharedLayoutSm80<Config>;
  using QueryTile = typename Shared::QueryTile;
  using KeyTile = typename Shared::KeyTile;
  using ValueTile = typename Shared::ValueTile;
  static constexpr int kScores = Config::kTileK / 2;
  static constexpr int kOutputs = Config::kValueDim / 2;
  static constexpr int kSteps = Config::kHeadDim / 16;
  static constexpr bool kQueryInRegisters = Loader::kQueryInRegisters;

  __device__ __forceinline__ RowsSm80(const ForwardParams& params, const Shared& shared, const ConsumerThread& thread)
      : params_(params), shared_(shared), thread_(thread) {
    // Left operands and V: lane l gives row l % 16 and the columns' half l / 16. K, whose rows are columns of the
    // product, has both the other way round.
    const int left_row = thread.lane & 15, left_half = thread.lane >> 4;
    query_lane_ = shared.query() + QueryTile::offset(thread.row() - (thread.lane >> 2) + left_row, left_half);
    key_lane_ = KeyTile::offset((thread.lane & 7) + 8 * (thread.lane >> 4), (thread.lane >> 3) & 1);
    value_lane_ = ValueTile::offset(left_row, left_half);
  }

  __device__ __forceinline__ void run() {
    Loader loader(params_, shared_, thread_);
    uint32 stage = 0;
    bool more = loader.begin_row(stage);
    if constexpr (!kQueryInRegisters) bring_query(loader, more);
    while (more) {
      const volatile RowWork& row = *shared_.row(loader.row_slot());
      const int tiles = loader.tiles(), partial_tiles = loader.partial_tiles();
      uint32 query[kQueryInRegisters ? kSteps : 1][4];
      float output[kOutputs];
#pragma unroll
      for (int i = 0; i < kOutputs; ++i) output[i] = 0.0f;
      SoftmaxState state;
#pragma unroll 1
      for (int tile = 0; tile < tiles; ++tile) {
        if (tile == 0) loader.publish_item();
        ptx::wait_copies<0>();
        __syncthreads();  // the tile is there, and nobody uses the other buffers any more
        if (kQueryInRegisters && tile == 0) load_query(query);
        if (tile + 1 < tiles) {
          loader.load_tile(stage ^ 1);
        } else {
          if (kQueryInRegisters && tile == 0) __syncthreads();
          more = loader.begin_row(stage ^ 1);
        }
        attend(stage, row, tile < partial_tiles, query, output, state);
        stage ^= 1;
      }
      if constexpr (!kQueryInRegisters) bring_query(loader, more);
      finish(row, output, state);
    }
    if (threadIdx.x == 0) finish_schedule(params_);
  }

 private:
  __device__ __forceinline__ void bring_query(Loader& loader, bool more) const {
    if (!more) return;
    __syncthreads();
    loader.load_query();
  }

  __device__ __forceinline__ void load_query(uint32 (&query)[kQueryInRegisters ? kSteps : 1][4]) const {
#pragma unroll
    for (int step = 0; kQueryInRegisters && step < kSteps; ++step) {
      ptx::load_matrices(QueryTile::advance(query_lane_, step), query[step]);
    }
  }

  __device__ __forceinline__ void attend(uint32 stage, const volatile RowWork& row, bool partial,
                                         const uint32 (&query)[kQueryInRegisters ? kSteps : 1][4],
                                         float (&output)[kOutputs], SoftmaxState& state) const {
    float scores[kScores];
    multiply_keys(shared_.key(stage) + key_lane_, query, scores);
    const volatile int* boxes = shared_.boxes(stage);
    const int first_query = row.query_begin + thread_.row();
    if constexpr (!Score::kIdentity) {
      score_tile<Config, Score>(scores, position_of(params_, row), first_query, boxes, thread_.lane);
    }
    if (partial) {
      mask_tile<Config, Mask>(scores, position_of(params_, row), first_query, boxes, thread_.lane, params_,
                              state.shown);
    }
    float correction[2];
    if (softmax_tile(scores, state, correction, params_.score_scale)) scale_rows(output, correction);
    uint32 probabilities[kScores / 2];
    pack_probabilities<Config::kBFloat16>(probabilities, scores);
    multiply_values(shared_.value(stage) + value_lane_, probabilities, output);
  }

  /// S = Q K^T
  __device__ __forceinline__ void multiply_keys(uint32 key, const uint32 (&query)[kQueryInRegisters ? kSteps : 1][4],
                                                float (&scores)[kScores]) const {
#pragma unroll
    for (int i = 0; i < kScores; ++i) scores[i] = 0.0f;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32 left[4];
      if constexpr (kQueryInRegisters) {
#pragma unroll
        for (int i = 0; i < 4; ++i) left[i] = query[step][i];
      } else {
        ptx::load_matrices(QueryTile::advance(query_lane_, step), left);
      }
#pragma unroll
      for (int keys = 0; keys < Config::kTileK / 16; ++keys) {
        uint32 right[4];
        ptx::load_matrices(KeyTile::advance(key, step) + keys * 16 * KeyTile::kRowBytes, right);
        ptx::mma<Config::kBFloat16>(accumulators(scores, 8 * keys), left, right[0], right[1]);
        ptx::mma<Config::kBFloat16>(accumulators(scores, 8 * keys + 4), left, right[2], right[3]);
      }
    }
  }

  /// O += P V
  __device__ __forceinline__ void multiply_values(uint32 value, const uint32 (&probabilities)[kScores / 2],
                                                  float (&output)[kOutputs]) const {
#pragma unroll
    for (int keys = 0; keys < Config::kTileK / 16; ++keys) {
      const uint32 left[4] = {probabilities[4 * keys], probabilities[4 * keys + 1], probabilities[4 * keys + 2],
                              probabilities[4 * keys + 3]};
#pragma unroll
      for (int columns = 0; columns < Config::kValueDim / 16; ++columns) {
        uint32 right[4];
        ptx::load_matrices_transposed(ValueTile::advance(value, columns) + keys * 16 * ValueTile::kRowBytes, right);
        ptx::mma<Config::kBFloat16>(accumulators(output, 8 * columns), left, right[0], right[1]);
        ptx::mma<Config::kBFloat16>(accumulators(output, 8 * columns + 4), left, right[2], right[3]);
      }
    }
  }

  /// O /= sum, LSE = m + log(sum)
  __device__ __forceinline__ void finish(const volatile RowWork& row, float (&output)[kOutputs],
                                         SoftmaxState& state) const {
    float factor[2], lse[2];
    finish_row<Config, Mask, Sink>(params_, row, thread_, state, factor, lse);
    scale_rows(output, factor);
    const int slot = row.split_slot;
    if (slot >= 0) {
      store_split<Config, Mask>(params_, slot, thread_, output, lse, state.shown);
      return;
    }
    store_output_rows<Config>(params_, row, thread_, output);
    if ((thread_.lane & 3) == 0) {
      const int query = row.query_begin + thread_.row();
      store_lse(params_, row, query, lse[0] * kLogOf2);
      store_lse(params_, row, query + 8, lse[1] * kLogOf2);
    }
  }

  const ForwardParams& params_;
  const Shared& shared_;
  const ConsumerThread thread_;
  uint32 query_lane_;
  uint32 key_lane_;  // inside a tile
  uint32 value_lane_;
};

}  // namespace harrier
