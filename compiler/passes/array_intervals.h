// Key intervals of the atoms that read arrays: documents, bit masks, block lists, where(...).
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/bind.h"
#include "compiler/passes/interval_set.h"
#include "ir/expression.h"
#include "ir/geometry.h"

namespace harrier {

/// Queries [q_begin, q_end), at least one, of one head of one sequence.
struct QueryRange {
  int64_t batch;
  int64_t head;
  int64_t q_begin;
  int64_t q_end;
  int64_t leaf_keys;  // where(...) is bisected down to this many keys
};

/// The stretches of equal segment id in one sequence, grouped by id: a query finds its keys without a scan, whether or
/// not ids are sorted. Memory grows with the number of stretches.
class DocumentIndex {
 public:
  /// `segments`: one id for each of the sequence's `length` keys.
  void build(const int32_t* segments, int64_t length);

  /// Keys in a document of the aligned query positions [begin, end); negative positions are in none.
  void intervals(int64_t begin, int64_t end, IntervalSet& out);

 private:
  struct Stretch {
    int64_t begin;
    int64_t end;
    int32_t id;
    int32_t group;  // equal ids, equal groups
  };
  std::vector<Stretch> stretches_;      // ascending by begin
  std::vector<int32_t> by_group_;       // indices of stretches, group after group, ascending inside
  std::vector<int32_t> group_offsets_;  // [groups + 1]
  std::vector<int32_t> seen_groups_;
  std::vector<int32_t> seen_stretches_;
};

/// Packed bit masks [batch or 1, heads or 1, q, k / 8]: rows are combined byte by byte. The two buffers are scratch.
struct BitRows {
  std::vector<uint8_t> every;
  std::vector<uint8_t> any;
};
void bits_intervals(const ArrayView& view, const QueryRange& range, int64_t key_length, BitRows& rows,
                    IntervalSet& out);

/// Block lists; a range over several row blocks is bounded over all of them.
void block_intervals(const BlockLists& lists, const QueryRange& range, int64_t key_length, IntervalSet& scratch,
                     IntervalSet& out);

/// How often the lists name the block of this pair.
int32_t block_count(const BlockLists& lists, int64_t batch, int64_t head, int64_t query, int64_t key);

/// where(condition): keys are bisected until interval arithmetic decides, or down to leaves of range.leaf_keys at
/// multiples of it.
void where_intervals(const Expression& condition, const BoundPattern& bound, const Sequence& sequence,
                     const QueryRange& range, IntervalSet& out);

}  // namespace harrier
