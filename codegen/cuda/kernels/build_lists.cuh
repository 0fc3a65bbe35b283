// Builds the list of key boxes of each row on the device: one CTA a row.
//
// Which boxes a row sees, and how much of them, follows from up to three things: a block table, the intervals that hold
// all that the mask can show, and the predicate, asked pair by pair only where the other two leave it open.
#pragma once

#include "codegen/cuda/kernels/key_source.cuh"
#include "codegen/cuda/kernels/table_counts.cuh"

namespace harrier {

/// `Lists` says how the mask uses its table:
///   kTable        entries carry what the table says of their box
///   kRowBlocks    blocks of queries in one row; with more than one, an entry says which of them see the box
///   kNeedsTable   a box that the table does not name is hidden whatever the predicate says
///   kPredicate    Mask::visible decides on pairs
///   kExact        where the table names a box once, the mask's intervals are what is visible
template <class Config, class Mask, class Lists>
class ListBuilder {
 public:
  static constexpr int kChunkBoxes = 1024;
  static constexpr int kGroups = kChunkBoxes / 32;
  static_assert(kGroups == 32, "a lane holds the sums of one group of boxes");
  static constexpr int kBoxes = Config::kTileK / Config::kBoxRows;

  struct Shared {
    uint32 counts[Lists::kRowBlocks][kChunkBoxes / 4 + 1];  // a byte for each key block of the chunk
    Visibility visibility[kChunkBoxes];
    int partial[kGroups];  // boxes of 32 that need a mask, and that do not
    int full[kGroups];
    int begin;
  };

  __device__ __forceinline__ ListBuilder(const ListParams& params, Shared& shared)
      : params_(params), shared_(shared), thread_(threadIdx.x), lane_(thread_ % 32), warp_(thread_ / 32) {}

  __device__ __forceinline__ void run() {
    const int place = static_cast<int>(blockIdx.x);
    const int head = static_cast<int>(blockIdx.y);
    const RowPlace where = row_at<Config>(params_.sequences, params_.rows_per_batch, params_.batches, place);
    list_ = place + head * params_.rows_per_head;
    row_ = describe_row<Config>(params_.sequences, {where.tile, head, where.batch, 0, 0, -1});
    query_end_ = smaller(row_.query_begin + Config::kTileQ, row_.query_valid);
    find_range();
    Sums sums{0, 0};
    for (int first = first_box_; first < end_box_; first += kChunkBoxes) {
      const Sums chunk = classify(first);
      sums = {sums.partial + chunk.partial, sums.full + chunk.full};
    }
    const int begin = take_room(sums);
    if (begin < 0) return;
    const int holes = holes_of(sums);
    if (thread_ < holes) params_.entries[begin + thread_] = kNoBox;
    int next_partial = begin + holes, next_full = next_partial + sums.partial;
    for (int first = first_box_; first < end_box_; first += kChunkBoxes) {
      if (end_box_ - first_box_ > kChunkBoxes) classify(first);  // else it is still there
      const Sums chunk = write(first, next_partial, next_full);
      next_partial += chunk.partial;
      next_full += chunk.full;
    }
  }

 private:
  struct Sums {
    int partial;
    int full;
  };

  static __device__ __forceinline__ int holes_of(const Sums& sums) {
    return (kBoxes - (sums.partial + sums.full) % kBoxes) % kBoxes;
  }

  __device__ __forceinline__ Position position() const { return position_of(params_.arguments, row_); }

  /// The boxes between the first and the last that the row may see.
  __device__ __forceinline__ void find_range() {
    first_box_ = end_box_ = 0;
    const int keys = walked_keys<Mask>(position());
    if (row_.query_begin >= query_end_ || keys <= 0) return;
    if constexpr (Lists::kPredicate) {
      bounds_.set(position(), row_.query_begin, query_end_);
      int begin = keys, end = 0;
#pragma unroll
      for (int i = 0; i < Mask::kIntervals; ++i) {
        if (bounds_.hull[i].begin >= bounds_.hull[i].end) continue;
        begin = smaller(begin, bounds_.hull[i].begin);
        end = larger(end, bounds_.hull[i].end);
      }
      if (begin >= end) return;
      first_box_ = begin / Config::kBoxRows;
      end_box_ = divide_up(end, Config::kBoxRows);
    } else {
      end_box_ = divide_up(keys, Config::kBoxRows);
    }
  }

  /// Fills shared_.visibility for the chunk of boxes from `first` on and gives its sums. All threads.
  __device__ __forceinline__ Sums classify(int first) {
    const int boxes = smaller(kChunkBoxes, end_box_ - first);
    __syncthreads();  // nobody reads the chunk before any more
    if constexpr (Lists::kTable) gather_counts(first, boxes);
    if constexpr (Lists::kPredicate) {
#pragma unroll 1
      for (int box = warp_; box < boxes; box += kBuildWarps) {
        const Visibility visibility = examine(first + box);
        if (lane_ == 0) shared_.visibility[box] = visibility;
      }
    } else {
#pragma unroll 1
      for (int box = thread_; box < boxes; box += kBuildThreads) shared_.visibility[box] = of_table(first + box);
    }
    __syncthreads();
#pragma unroll 1
    for (int group = warp_; group < kGroups; group += kBuildWarps) {
      const Visibility visibility = visibility_at(group, boxes);
      const int partial = __popc(__ballot_sync(0xffffffffu, visibility == Visibility::kPartial));
      const int full = __popc(__ballot_sync(0xffffffffu, visibility == Visibility::kFull));
      if (lane_ == 0) {
        shared_.partial[group] = partial;
        shared_.full[group] = full;
      }
    }
    __syncthreads();
    return {warp_sum(shared_.partial[lane_]), warp_sum(shared_.full[lane_])};
  }

  __device__ __forceinline__ Visibility visibility_at(int group, int boxes) const {
    const int box = 32 * group + lane_;
    return box < boxes ? shared_.visibility[box] : Visibility::kEmpty;
  }

  /// What the table says of the chunk's key blocks, for each of the row's blocks of queries.
  __device__ __forceinline__ void gather_counts(int first, int boxes) {
    const int block = params_.table.block;
    first_block_ = first * Config::kBoxRows / block;
    const int end = smaller(divide_up((first + boxes) * Config::kBoxRows, block), divide_up(row_.key_length, block));
#pragma unroll
    for (int i = 0; i < Lists::kRowBlocks; ++i) {
      for (int word = thread_; word < kChunkBoxes / 4 + 1; word += kBuildThreads) shared_.counts[i][word] = 0;
    }
    __syncthreads();
    for (int i = 0; i < Lists::kRowBlocks; ++i) {
      const int query = row_.query_begin + i * block;
      if (query < query_end_) {
        add_table_row(params_.table, row_, query / block, {shared_.counts[i], first_block_, end}, thread_);
      }
    }
    __syncthreads();
  }

  __device__ __forceinline__ int count(int row_block, int box) const {
    const int block = box * Config::kBoxRows / params_.table.block - first_block_;
    const int seen = static_cast<int>(shared_.counts[row_block][block / 4] >> (8 * (block % 4)) & 0xff);
    return params_.table.counted != 0 ? seen : smaller(seen, 1);
  }

  /// The high 8 bits of a box's entry.
  __device__ __forceinline__ int note(int box) const {
    if constexpr (!Lists::kTable) return 0;
    if constexpr (Lists::kRowBlocks == 1) return (count(0, box) - 1) & 0xff;
    int hidden = 0;
    for (int i = 0; i < Lists::kRowBlocks; ++i) {
      const bool valid = row_.query_begin + i * params_.table.block < query_end_;
      if (valid && count(i, box) == 0) hidden |= 1 << i;
    }
    return hidden;
  }

  __device__ __forceinline__ bool is_listed(int box) const {
    bool listed = !Lists::kTable;
    for (int i = 0; i < Lists::kRowBlocks && !listed; ++i) listed = count(i, box) != 0;
    return listed;
  }

  __device__ __forceinline__ bool is_whole(int box) const { return (box + 1) * Config::kBoxRows <= row_.key_valid; }

  /// Without a predicate.
  __device__ __forceinline__ Visibility of_table(int box) const {
    if (!is_listed(box)) return Visibility::kEmpty;
    return note(box) == 0 && is_whole(box) ? Visibility::kFull : Visibility::kPartial;
  }

  /// With a predicate. All lanes of a warp.
  __device__ __forceinline__ Visibility examine(int box) const {
    if (Lists::kNeedsTable && !is_listed(box)) return Visibility::kEmpty;
    const int begin = box * Config::kBoxRows;
    const int listed = note(box);
    const Visibility bound = bounds_.of(begin, begin + Config::kBoxRows);
    if (bound == Visibility::kEmpty || (bound == Visibility::kFull && listed == 0)) return bound;
    const Position at = position();
    const int counted = (1 + listed) & 0xff;
    const int pairs = (query_end_ - row_.query_begin) * Config::kBoxRows;
    bool some = false, all = true;
    for (int first = 0; first < pairs; first += kPairsAtOnce) {
#pragma unroll 1
      for (int i = first + lane_; i < smaller(pairs, first + kPairsAtOnce); i += 32) {
        const int key = begin + i % Config::kBoxRows;
        if (key >= walked_keys<Mask>(at)) continue;
        const int times = Mask::visible(at, row_.query_begin + i / Config::kBoxRows, key, counted);
        some = some || times != 0;
        all = all && times == 1;
      }
      if (__any_sync(0xffffffffu, some) && __any_sync(0xffffffffu, !all)) return Visibility::kPartial;
    }
    if (!__any_sync(0xffffffffu, some)) return Visibility::kEmpty;
    return is_whole(box) && is_counted_once(listed) ? Visibility::kFull : Visibility::kPartial;
  }

  /// Whether an entry with this note may stand in a tile without a mask: nothing has to be added to its scores.
  static __device__ __forceinline__ bool is_counted_once(int note) {
    return Lists::kRowBlocks > 1 || note == 0 || note == 0xff;
  }

  /// The place of the row's list; negative where there is no room. All threads.
  __device__ __forceinline__ int take_room(const Sums& sums) {
    const int holes = holes_of(sums);
    const int size = sums.partial + sums.full + holes;
    if (thread_ == 0) {
      const bool fixed = params_.entries_per_row > 0;
      const int begin = fixed ? list_ * params_.entries_per_row : atomicAdd(&params_.state->entries, size);
      const int limit =
          fixed ? smaller(begin + params_.entries_per_row, params_.entry_capacity) : params_.entry_capacity;
      const bool fits = begin >= 0 && size <= limit - begin;
      if (!fits) params_.state->overflow = 1;
      params_.row_begin[list_] = fits ? begin : 0;
      params_.row_end[list_] = fits ? begin + size : 0;
      params_.partial_tiles[list_] = fits ? divide_up(holes + sums.partial, kBoxes) : 0;
      shared_.begin = fits ? begin : -1;
    }
    __syncthreads();
    return shared_.begin;
  }

  /// Writes the entries of the chunk that was classified last.
  __device__ __forceinline__ Sums write(int first, int next_partial, int next_full) {
    const int boxes = smaller(kChunkBoxes, end_box_ - first);
    const int partial_end = warp_prefix_sum(shared_.partial[lane_], lane_);
    const int full_end = warp_prefix_sum(shared_.full[lane_], lane_);
#pragma unroll 1
    for (int group = warp_; group < kGroups; group += kBuildWarps) {
      const Visibility visibility = visibility_at(group, boxes);
      const uint32 partial = __ballot_sync(0xffffffffu, visibility == Visibility::kPartial);
      const uint32 full = __ballot_sync(0xffffffffu, visibility == Visibility::kFull);
      const int partial_begin = __shfl_sync(0xffffffffu, partial_end, group) - __popc(partial);
      const int full_begin = __shfl_sync(0xffffffffu, full_end, group) - __popc(full);
      if (visibility == Visibility::kEmpty) continue;
      const uint32 before = (1u << lane_) - 1;
      const int place = visibility == Visibility::kPartial ? next_partial + partial_begin + __popc(partial & before)
                                                           : next_full + full_begin + __popc(full & before);
      const int box = first + 32 * group + lane_;
      params_.entries[place] = box | static_cast<int>(static_cast<uint32>(note(box)) << 24);
    }
    return {__shfl_sync(0xffffffffu, partial_end, 31), __shfl_sync(0xffffffffu, full_end, 31)};
  }

  /// Pairs between two looks at whether the box is already known to be partial.
  static constexpr int kPairsAtOnce = 256;

  const ListParams& params_;
  Shared& shared_;
  int thread_;
  int lane_;
  int warp_;
  int list_ = 0;  // the row's number among lists
  RowWork row_{};
  int query_end_ = 0;
  int first_box_ = 0;
  int end_box_ = 0;
  int first_block_ = 0;  // of the chunk's key blocks
  RowIntervals<Mask, Lists::kExact> bounds_{};
};

}  // namespace harrier
