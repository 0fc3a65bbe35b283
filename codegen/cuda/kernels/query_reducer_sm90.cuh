// Who adds what consumers have computed of dQ to its sums: in the order of their arrival, or in an order that is the
// same every time.
//
// That order: to a query tile's sums columns add by rising key tiles. A counter for each share of a tile says how many
// have; a column waits until that is the number of those before it, adds, waits until the addition is done, and counts.
//
// Nobody waits for ever. Items of work lie in an order in which, of one head of one sequence, columns and parts of
// columns rise (cut_columns in build_columns.cuh), and CTAs draw all of them from one counter (draw_in_turn). So
// whoever an item waits for comes before it in the order: it was drawn earlier, by a CTA that runs. A CTA works on its
// items in the order in which it drew them, and its warps on tiles in the order of the items. Of all items that are
// drawn and unfinished the first therefore waits for none, in whatever order the tiles of an item are walked, however
// many CTAs run, and however many heads read a key head; it ends, and the next is first.
#pragma once

#include "codegen/cuda/kernels/backward_layout_sm90.cuh"

namespace harrier {

/// Adds the warpgroups' shares of dQ, tile after tile, to the sums. One thread.
template <class Config>
class QueryReducer {
 public:
  using Shared = ColumnLayout<Config>;
  using Shares = QueryShares<Config>;
  static constexpr int kSharers = Shares::kSharers;

  __device__ __forceinline__ QueryReducer(const BackwardParams& params, const Shared& shared)
      : params_(params), shared_(shared) {}

  __device__ __forceinline__ void run() {
    while (add<0>()) {
      release<0>();
      sums_.advance();
    }
    ptx::wait_stores();
  }

 private:
  /// Starts the additions of one tile. False when there are no more.
  template <int kWarpgroup>
  __device__ __forceinline__ bool add() {
    ptx::barrier_wait(shared_.sums_full(kWarpgroup), sums_.parity);
    const int place = *shared_.place(kWarpgroup);
    if (place == Shared::kNoMoreSums) return false;
    const int64 first = static_cast<int64>(place) * (Config::kTileQ * Config::kHeadDim);
    ptx::reduce_add(params_.d_query_sums + first + Shares::first_number(kWarpgroup), shared_.sums(kWarpgroup),
                    4 * kWarpgroupRows * Shares::columns(kWarpgroup));
    ptx::commit_stores();
    if constexpr (kWarpgroup + 1 < kSharers) return add<kWarpgroup + 1>();
    return true;
  }

  /// Gives the buffers back, each as soon as its addition has read it.
  template <int kWarpgroup>
  __device__ __forceinline__ void release() {
    ptx::wait_stores_read<kSharers - 1 - kWarpgroup>();
    ptx::barrier_arrive(shared_.sums_empty(kWarpgroup));
    if constexpr (kWarpgroup + 1 < kSharers) release<kWarpgroup + 1>();
  }

  const BackwardParams& params_;
  const Shared& shared_;
  StageCursor<1> sums_;
};

/// Adds one warpgroup's share of dQ, tile after tile, each in its turn. One thread for each share: shares wait for
/// nothing of each other. Consumers go on meanwhile, until they have the next tile's dQ.
template <class Config>
class OrderedReducer {
 public:
  using Shared = ColumnLayout<Config>;
  using Shares = QueryShares<Config>;

  __device__ __forceinline__ OrderedReducer(const BackwardParams& params, const Shared& shared, int warpgroup)
      : params_(params), shared_(shared), warpgroup_(warpgroup) {}

  __device__ __forceinline__ void run() {
    while (true) {
      ptx::barrier_wait(shared_.sums_full(warpgroup_), sums_.parity);
      const int place = shared_.place(warpgroup_)->place, turn = shared_.place(warpgroup_)->turn;
      if (place == Shared::kNoMoreSums) return;
      const int64 first = static_cast<int64>(place) * (Config::kTileQ * Config::kHeadDim);
      uint32* counter = params_.turns + static_cast<int64>(place) * Config::kConsumers + warpgroup_;
      ptx::wait_for_turn(counter, turn);
      ptx::fence_global_for_async();
      ptx::reduce_add(params_.d_query_sums + first + Shares::first_number(warpgroup_), shared_.sums(warpgroup_),
                      4 * kWarpgroupRows * Shares::columns(warpgroup_));
      ptx::commit_stores();
      ptx::wait_stores_read<0>();
      ptx::barrier_arrive(shared_.sums_empty(warpgroup_));
      ptx::wait_stores();
      ptx::fence_global_for_async();
      ptx::pass_turn(counter);
      sums_.advance();
    }
  }

 private:
  const BackwardParams& params_;
  const Shared& shared_;
  int warpgroup_;
  StageCursor<1> sums_;
};

}  // namespace harrier
