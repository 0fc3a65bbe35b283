// The rows of a CTA: S = Q K^T, softmax, O += P V, each warp for its 16 or 32 queries, while copies bring the next
// tile.
#pragma once

#include "codegen/cuda/kernels/epilogue_sm80.cuh"
#include "codegen/cuda/kernels/loader_sm80.cuh"
#include "codegen/cuda/kernels/mask_tile.cuh"
#include "codegen/cuda/kernels/products_sm80.cuh"

namespace harrier {

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
  /// Blocks of 16 queries. Two share what is read of K and V, which shared memory else barely delivers.
  static constexpr int kBlocks = Config::kWarpRows / 16;

  __device__ __forceinline__ RowsSm80(const ForwardParams& params, const Shared& shared)
      : params_(params), shared_(shared) {
    // Left operands and V: lane l gives row l % 16 and the columns' half l / 16. K, whose rows are columns of the
    // product, has both the other way round.
    const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) / 32;
    const int left_row = lane & 15, left_half = lane >> 4;
    query_lane_ = shared.query() + QueryTile::offset(warp * Config::kWarpRows + left_row, left_half);
    key_lane_ = KeyTile::offset((lane & 7) + 8 * (lane >> 4), (lane >> 3) & 1);
    value_lane_ = ValueTile::offset(left_row, left_half);
  }

  __device__ __forceinline__ void run() {
    Loader loader(params_, shared_);
    uint32 stage = 0;
    bool more = loader.begin_row(stage);
    if constexpr (!kQueryInRegisters) bring_query(loader, more);
    while (more) {
      const volatile RowWork& row = *shared_.row(loader.row_slot());
      const int tiles = loader.tiles(), partial_tiles = loader.partial_tiles();
      Query query;
      Row rows[kBlocks];
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
        attend(stage, row, tile < partial_tiles, query, rows);
        stage ^= 1;
      }
      if constexpr (!kQueryInRegisters) bring_query(loader, more);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) finish(row, consumer_thread<Config>(block), rows[block]);
    }
    if (threadIdx.x == 0) finish_schedule(params_);
  }

 private:
  /// What 16 queries have come to so far.
  struct Row {
    float output[kOutputs] = {};
    SoftmaxState state;
  };
  struct Query {
    uint32 fragments[kQueryInRegisters ? kSteps : 1][kBlocks][4];
  };

  __device__ __forceinline__ void bring_query(Loader& loader, bool more) const {
    if (!more) return;
    __syncthreads();
    loader.load_query();
  }

  __device__ __forceinline__ void load_query(Query& query) const {
#pragma unroll
    for (int step = 0; kQueryInRegisters && step < kSteps; ++step) load_query(step, query.fragments[step]);
  }

  __device__ __forceinline__ void load_query(int step, uint32 (&fragments)[kBlocks][4]) const {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      ptx::load_matrices(QueryTile::advance(query_lane_, step) + block * 16 * QueryTile::kRowBytes, fragments[block]);
    }
  }

  __device__ __forceinline__ void attend(uint32 stage, const volatile RowWork& row, bool partial, const Query& query,
                                         Row (&rows)[kBlocks]) const {
    float scores[kBlocks][kScores];
    uint32 probabilities[kBlocks][kScores / 2];
    multiply_keys(shared_.key(stage) + key_lane_, query, scores);
    const volatile int* boxes = shared_.boxes(stage);
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const ConsumerThread thread = consumer_thread<Config>(block);
      const int first_query = row.query_begin + thread.row();
      if constexpr (!Score::kIdentity) {
        score_tile<Config, Score>(scores[block], position_of(params_, row), first_query, boxes, thread.lane);
      }
      if (partial) {
        SeenKeys<Mask> seen;
        seen.find(position_of(params_, row), first_query);
        mask_tile<Config, Mask>(scores[block], position_of(params_, row), first_query, seen, boxes, thread.lane,
                                params_, rows[block].state.shown);
      }
      float correction[2];
      if (softmax_tile(scores[block], rows[block].state, correction, params_.score_scale)) {
        scale_rows(rows[block].output, correction);
      }
      pack_probabilities<Config::kBFloat16>(probabilities[block], scores[block]);
    }
    multiply_values(shared_.value(stage) + value_lane_, probabilities, rows);
  }

  /// S = Q K^T
  __device__ __forceinline__ void multiply_keys(uint32 key, const Query& query,
                                                float (&scores)[kBlocks][kScores]) const {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < kScores; ++i) scores[block][i] = 0.0f;
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32 loaded[kBlocks][4];
      if constexpr (!kQueryInRegisters) load_query(step, loaded);
      const auto& left = kQueryInRegisters ? query.fragments[kQueryInRegisters ? step : 0] : loaded;
#pragma unroll
      for (int keys = 0; keys < Config::kTileK / 16; ++keys) {
        uint32 right[4];
        ptx::load_matrices(KeyTile::advance(key, step) + keys * 16 * KeyTile::kRowBytes, right);
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          ptx::mma<Config::kBFloat16>(accumulators(scores[block], 8 * keys), left[block], right[0], right[1]);
          ptx::mma<Config::kBFloat16>(accumulators(scores[block], 8 * keys + 4), left[block], right[2], right[3]);
        }
      }
    }
  }

  /// O += P V
  __device__ __forceinline__ void multiply_values(uint32 value, const uint32 (&probabilities)[kBlocks][kScores / 2],
                                                  Row (&rows)[kBlocks]) const {
#pragma unroll
    for (int keys = 0; keys < Config::kTileK / 16; ++keys) {
      uint32 left[kBlocks][4];
#pragma unroll
      for (int i = 0; i < 4 * kBlocks; ++i) left[i / 4][i % 4] = probabilities[i / 4][4 * keys + i % 4];
#pragma unroll
      for (int columns = 0; columns < Config::kValueDim / 16; ++columns) {
        uint32 right[4];
        ptx::load_matrices_transposed(ValueTile::advance(value, columns) + keys * 16 * ValueTile::kRowBytes, right);
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          ptx::mma<Config::kBFloat16>(accumulators(rows[block].output, 8 * columns), left[block], right[0], right[1]);
          ptx::mma<Config::kBFloat16>(accumulators(rows[block].output, 8 * columns + 4), left[block], right[2],
                                      right[3]);
        }
      }
    }
  }

  /// O /= sum, LSE = m + log(sum)
  __device__ __forceinline__ void finish(const volatile RowWork& row, const ConsumerThread& thread, Row& result) const {
    float factor[2], lse[2];
    finish_row<Config, Mask, Sink>(params_, row, thread, result.state, factor, lse);
    scale_rows(result.output, factor);
    const int slot = row.split_slot;
    if (slot >= 0) {
      store_split<Config, Mask>(params_, slot, thread, result.output, lse, result.state.shown);
      return;
    }
    store_output_rows<Config>(params_, row, thread, result.output);
    if ((thread.lane & 3) == 0) {
      const int query = row.query_begin + thread.row();
      store_lse(params_, row, query, lse[0] * kLogOf2);
      store_lse(params_, row, query + 8, lse[1] * kLogOf2);
    }
  }

  const ForwardParams& params_;
  const Shared& shared_;
  uint32 query_lane_;
  uint32 key_lane_;  // inside a tile
  uint32 value_lane_;
};

}  // namespace harrier
