// Where things lie in the shared memory of a CTA that works on columns, and the barriers that say when they are there.
#pragma once

#include "codegen/cuda/kernels/column_work.cuh"
#include "codegen/cuda/kernels/shared_layout.cuh"

namespace harrier {

/// A query tile of the stream of a column.
struct QueryTile {
  int entry;  // tile and note, as QueryLists has them
  int head;
  int partial;  // 1 = needs a mask
  int place;    // of [head][tile place] in BackwardParams::log2_lse and the arrays beside it
};

/// The same where columns add to dQ in a fixed order.
struct OrderedQueryTile : QueryTile {
  int turn;  // how many columns add to the tile before this one
};

/// Where dQ of a tile is added, and when.
struct OrderedPlace {
  int place;
  int turn;
};

/// What a warpgroup computes of dQ of a query tile: 64 queries, all columns of them or some panels or none. The tile's
/// sums lie in d_query_sums 64 queries at a time, of these eight columns at a time, of these four numbers a thread in
/// the order of the accumulators; so every warpgroup's share is one stretch.
template <class Config>
struct QueryShares {
  static constexpr int kBlocks = Config::kTileQ / kWarpgroupRows;
  static_assert(kBlocks == 1 || kBlocks == Config::kConsumers, "a warpgroup makes dQ of 64 queries");
  using Panels = wgmma::Panels<Config::kHeadDim, Config::kTileK>;
  /// How many warpgroups divide the columns of 64 queries among them. The first take one panel more.
  static constexpr int kParts = Config::kConsumers / kBlocks;
  static constexpr int kMostColumns = divide_up(Panels::kCount, kParts) * Panels::kPanelColumns;
  static constexpr int kLeastColumns = Panels::kCount / kParts * Panels::kPanelColumns;
  static constexpr int kLargerParts = Panels::kCount % kParts;
  /// The first of the warpgroups, which have columns at all.
  static constexpr int kSharers = kLeastColumns > 0 ? Config::kConsumers : kLargerParts;

  static __device__ __forceinline__ int block(int warpgroup) { return warpgroup / kParts; }
  static __device__ __forceinline__ int part(int warpgroup) { return warpgroup % kParts; }
  static __device__ __forceinline__ int columns(int warpgroup) {
    return kLargerParts == 0 || part(warpgroup) < kLargerParts ? kMostColumns : kLeastColumns;
  }
  static __device__ __forceinline__ int first_column(int warpgroup) {
    return part(warpgroup) * kLeastColumns + smaller(part(warpgroup), kLargerParts) * Panels::kPanelColumns;
  }
  /// Numbers of the tile before the warpgroup's.
  static __device__ __forceinline__ int first_number(int warpgroup) {
    return kWarpgroupRows * (block(warpgroup) * Config::kHeadDim + first_column(warpgroup));
  }
};

template <class Config>
struct ColumnLayout {
  using QueryPanels = wgmma::Panels<Config::kHeadDim, Config::kTileQ>;
  using OutputPanels = wgmma::Panels<Config::kValueDim, Config::kTileQ>;
  using KeyPanels = wgmma::Panels<Config::kHeadDim, Config::kTileK>;
  using ValuePanels = wgmma::Panels<Config::kValueDim, Config::kTileK>;
  using ScorePanels = wgmma::Panels<Config::kTileK, Config::kTileQ>;  // dS, queries by keys

  using Tile = typename Choose<Config::kDeterministic, OrderedQueryTile, QueryTile>::Type;
  using Place = typename Choose<Config::kDeterministic, OrderedPlace, int>::Type;

  static constexpr int kColumnSlots = 2;
  static constexpr uint32 kStatisticBytes = 4 * Config::kTileQ;
  /// True where a column's 64 keys are worked on by two warpgroups: see backward_divided_sm90.cuh.
  static constexpr bool kDivided = Config::kConsumers * kWarpgroupRows != Config::kTileK;

  static constexpr uint32 kValueOffset = KeyPanels::kBytes;
  static constexpr uint32 kQueryOffset = kValueOffset + ValuePanels::kBytes;
  static constexpr uint32 kOutputOffset = kQueryOffset + Config::kStages * QueryPanels::kBytes;
  static constexpr uint32 kScoreOffset = kOutputOffset + Config::kStages * OutputPanels::kBytes;
  static constexpr uint32 kFactorBytes = kDivided ? 2 * kWarpgroupRows * Config::kTileQ : 0;
  static constexpr uint32 kSumBytes = 4 * Config::kTileQ * Config::kHeadDim;
  static constexpr uint32 kBarriers = 2 * kColumnSlots + 2 + 4 * Config::kStages + 2 * Config::kConsumers;
  static constexpr uint32 kSmallBytes = 2 * Config::kStages * kStatisticBytes + 8 * kBarriers +
                                        Config::kStages * sizeof(Tile) + kColumnSlots * sizeof(ColumnWork) +
                                        Config::kConsumers * sizeof(Place);
  static constexpr bool fits(uint32 score_buffers, uint32 sum_bytes) {
    const uint32 bytes = kScoreOffset + score_buffers * ScorePanels::kBytes + kFactorBytes + sum_bytes + kSmallBytes;
    return (bytes + 1024) * Config::kCtasPerSm <= 233472;
  }
  /// dQ of a tile is added to its sums from shared memory, by the copy engine; else from registers.
  static constexpr bool kSumsInShared = fits(1, kSumBytes);
  /// With two buffers of dS the next tile's is written while the last one's is still multiplied.
  static constexpr int kScoreBuffers = !kDivided && fits(2, kSumsInShared ? kSumBytes : 0) ? 2 : 1;
  static constexpr uint32 kFactorOffset = kScoreOffset + kScoreBuffers * ScorePanels::kBytes;
  static constexpr uint32 kSumsOffset = kFactorOffset + kFactorBytes;
  static constexpr uint32 kStatisticsOffset = kSumsOffset + (kSumsInShared ? kSumBytes : 0);
  static constexpr uint32 kBarrierOffset = kStatisticsOffset + 2 * Config::kStages * kStatisticBytes;
  static constexpr uint32 kTileOffset = kBarrierOffset + 8 * kBarriers;
  static constexpr uint32 kColumnOffset = kTileOffset + Config::kStages * sizeof(Tile);
  static constexpr uint32 kPlaceOffset = kColumnOffset + kColumnSlots * sizeof(ColumnWork);
  static constexpr uint32 kBytes = kPlaceOffset + Config::kConsumers * sizeof(Place);
  static_assert(kBytes == kStatisticsOffset + kSmallBytes, "what fits is what is laid out");

  static constexpr uint32 kKeysBarrier = 2 * kColumnSlots;
  static constexpr uint32 kQueryBarrier = kKeysBarrier + 2;
  static constexpr uint32 kOutputBarrier = kQueryBarrier + 2 * Config::kStages;
  static constexpr uint32 kSumsBarrier = kOutputBarrier + 2 * Config::kStages;

  unsigned char* base;
  uint32 address;

  __device__ __forceinline__ explicit ColumnLayout(unsigned char* shared)
      : base(shared), address(ptx::shared_address(shared)) {}

  __device__ __forceinline__ uint32 key() const { return address; }
  __device__ __forceinline__ uint32 value() const { return address + kValueOffset; }
  __device__ __forceinline__ uint32 query(uint32 stage) const {
    return address + kQueryOffset + stage * QueryPanels::kBytes;
  }
  __device__ __forceinline__ uint32 d_output(uint32 stage) const {
    return address + kOutputOffset + stage * OutputPanels::kBytes;
  }
  __device__ __forceinline__ uint32 d_scores(uint32 buffer) const {
    return address + kScoreOffset + buffer * ScorePanels::kBytes;
  }
  /// What the second warpgroup of a divided column multiplies dP - delta by.
  __device__ __forceinline__ uint32 factors() const { return address + kFactorOffset; }
  /// A warpgroup's share of dQ of a query tile, before it is added to d_query_sums.
  __device__ __forceinline__ uint32 sums(int warpgroup) const {
    return address + kSumsOffset + 4 * QueryShares<Config>::first_number(warpgroup);
  }
  __device__ __forceinline__ uint32 log2_lse(uint32 stage) const {
    return address + kStatisticsOffset + stage * kStatisticBytes;
  }
  __device__ __forceinline__ uint32 delta(uint32 stage) const { return log2_lse(Config::kStages + stage); }
  __device__ __forceinline__ volatile Tile* tile(uint32 stage) const {
    return reinterpret_cast<volatile Tile*>(base + kTileOffset) + stage;
  }
  __device__ __forceinline__ volatile ColumnWork* column(uint32 slot) const {
    return reinterpret_cast<volatile ColumnWork*>(base + kColumnOffset) + slot;
  }
  /// QueryTile::place of what lies in sums(warpgroup); kNoMoreSums = nothing, and nothing will.
  __device__ __forceinline__ volatile Place* place(int warpgroup) const {
    return reinterpret_cast<volatile Place*>(base + kPlaceOffset) + warpgroup;
  }
  static constexpr int kNoMoreSums = -1;

  __device__ __forceinline__ uint32 barrier(uint32 index) const { return address + kBarrierOffset + 8 * index; }
  __device__ __forceinline__ uint32 column_full(uint32 slot) const { return barrier(slot); }
  __device__ __forceinline__ uint32 column_empty(uint32 slot) const { return barrier(kColumnSlots + slot); }
  __device__ __forceinline__ uint32 keys_full() const { return barrier(kKeysBarrier); }
  __device__ __forceinline__ uint32 keys_empty() const { return barrier(kKeysBarrier + 1); }
  __device__ __forceinline__ uint32 query_full(uint32 stage) const { return barrier(kQueryBarrier + stage); }
  __device__ __forceinline__ uint32 query_empty(uint32 stage) const {
    return barrier(kQueryBarrier + Config::kStages + stage);
  }
  __device__ __forceinline__ uint32 d_output_full(uint32 stage) const { return barrier(kOutputBarrier + stage); }
  __device__ __forceinline__ uint32 d_output_empty(uint32 stage) const {
    return barrier(kOutputBarrier + Config::kStages + stage);
  }
  __device__ __forceinline__ uint32 sums_full(int warpgroup) const { return barrier(kSumsBarrier + warpgroup); }
  __device__ __forceinline__ uint32 sums_empty(int warpgroup) const {
    return barrier(kSumsBarrier + Config::kConsumers + warpgroup);
  }

  /// By one thread. One arrival of a warpgroup speaks for it where products alone read, or where a barrier of all
  /// consumers lies between the last ordinary load and the arrival, as for what comes with Q and dO.
  __device__ __forceinline__ void init_barriers() const {
    for (int slot = 0; slot < kColumnSlots; ++slot) {
      ptx::barrier_init(column_full(slot), 1);
      ptx::barrier_init(column_empty(slot), 4 * Config::kConsumers);
    }
    ptx::barrier_init(keys_full(), 1);
    ptx::barrier_init(keys_empty(), Config::kConsumers);
    for (int stage = 0; stage < Config::kStages; ++stage) {
      ptx::barrier_init(query_full(stage), 1);
      ptx::barrier_init(query_empty(stage), Config::kConsumers);
      ptx::barrier_init(d_output_full(stage), 1);
      ptx::barrier_init(d_output_empty(stage), Config::kConsumers);
    }
    for (int warpgroup = 0; warpgroup < Config::kConsumers; ++warpgroup) {
      ptx::barrier_init(sums_full(warpgroup), 4);
      ptx::barrier_init(sums_empty(warpgroup), 1);
    }
    ptx::barrier_init_fence();
  }
};

}  // namespace harrier
