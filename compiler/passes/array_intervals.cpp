#include "compiler/passes/array_intervals.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>

#include "compiler/expression_range.h"
#include "ir/error.h"

namespace harrier {
namespace {

/// Entries of one row of block lists.
struct BlockRow {
  std::span<const int32_t> blocks;
  std::span<const int32_t> counts;
};

BlockRow block_row(const BlockLists& lists, int64_t batch, int64_t head, int64_t row_block) {
  HARRIER_CHECK(row_block < lists.row_blocks, "a block list has fewer row blocks than the queries need");
  const int64_t row = ((batch % lists.batches) * lists.heads + head % lists.heads) * lists.row_blocks + row_block;
  const auto begin = static_cast<size_t>(lists.offsets[row]);
  const auto size = static_cast<size_t>(lists.offsets[row + 1]) - begin;
  return {std::span(lists.blocks).subspan(begin, size), std::span(lists.counts).subspan(begin, size)};
}

void append_row(const BlockRow& row, int64_t size, int64_t key_length, IntervalSet& out) {
  for (size_t i = 0; i < row.blocks.size(); ++i) {
    const int64_t begin = row.blocks[i] * size;
    append(out, {begin, std::min(begin + size, key_length), row.counts[i], row.counts[i]});
  }
}

/// What interval arithmetic says of a box: true or false for all of it, or nothing.
std::optional<bool> decide(const Expression& condition, const VariableRanges& box, const BoundPattern& bound) {
  const std::optional<Range> values = range_of(condition, box, bound);
  if (!values) return {};
  if (values->low > 0 || values->high < 0) return true;
  if (values->low == 0 && values->high == 0) return false;
  return {};
}

void bisect(const Expression& condition, const BoundPattern& bound, const Sequence& sequence, const QueryRange& range,
            VariableRanges& box, int64_t begin, int64_t end, IntervalSet& out) {
  box.k = {begin, end - 1};
  box.k_token = {sequence.key_token + begin, sequence.key_token + end - 1};
  const std::optional<bool> visible = decide(condition, box, bound);
  if (visible) {
    if (*visible) append(out, {begin, end, 1, 1});
    return;
  }
  const int64_t leaves = (end - begin + range.leaf_keys - 1) / range.leaf_keys;
  if (leaves <= 1) {
    append(out, {begin, end, 0, 1});
    return;
  }
  const int64_t middle = begin + leaves / 2 * range.leaf_keys;
  bisect(condition, bound, sequence, range, box, begin, middle, out);
  bisect(condition, bound, sequence, range, box, middle, end, out);
}

}  // namespace

void DocumentIndex::build(const int32_t* segments, int64_t length) {
  stretches_.clear();
  for (int64_t k = 0; k < length; ++k) {
    if (stretches_.empty() || stretches_.back().id != segments[k]) {
      stretches_.push_back({.begin = k, .end = k, .id = segments[k], .group = 0});
    }
    stretches_.back().end = k + 1;
  }
  by_group_.resize(stretches_.size());
  std::iota(by_group_.begin(), by_group_.end(), 0);
  std::ranges::stable_sort(by_group_, {}, [this](int32_t index) { return stretches_[index].id; });
  group_offsets_.clear();
  for (size_t i = 0; i < by_group_.size(); ++i) {
    const bool is_new = i == 0 || stretches_[by_group_[i]].id != stretches_[by_group_[i - 1]].id;
    if (is_new) group_offsets_.push_back(static_cast<int32_t>(i));
    stretches_[by_group_[i]].group = static_cast<int32_t>(group_offsets_.size()) - 1;
  }
  group_offsets_.push_back(static_cast<int32_t>(by_group_.size()));
}

void DocumentIndex::intervals(int64_t begin, int64_t end, IntervalSet& out) {
  out.clear();
  if (end <= 0 || stretches_.empty()) return;
  const auto first = std::ranges::upper_bound(stretches_, std::max<int64_t>(begin, 0), {}, &Stretch::end);
  seen_groups_.clear();
  for (auto stretch = first; stretch != stretches_.end() && stretch->begin < end; ++stretch) {
    seen_groups_.push_back(stretch->group);
  }
  std::ranges::sort(seen_groups_);
  seen_groups_.erase(std::ranges::unique(seen_groups_).begin(), seen_groups_.end());
  seen_stretches_.clear();
  for (const int32_t group : seen_groups_) {
    seen_stretches_.insert(seen_stretches_.end(), by_group_.begin() + group_offsets_[group],
                           by_group_.begin() + group_offsets_[group + 1]);
  }
  if (seen_groups_.size() > 1) std::ranges::sort(seen_stretches_);
  const int32_t low = begin >= 0 && seen_groups_.size() == 1 ? 1 : 0;
  for (const int32_t index : seen_stretches_) append(out, {stretches_[index].begin, stretches_[index].end, low, 1});
}

void bits_intervals(const ArrayView& view, const QueryRange& range, int64_t key_length, BitRows& rows,
                    IntervalSet& out) {
  out.clear();
  HARRIER_CHECK(view.shape.size() == 4, "a bound bit mask lacks dimensions");
  HARRIER_CHECK(view.type == ElementType::kUInt8, "a bound bit mask is not packed");
  const int64_t row_count = view.shape[2];
  const int64_t row_bytes = view.shape[3];
  const int64_t used_bytes = (key_length + 7) / 8;
  HARRIER_CHECK(range.q_end <= row_count, "a bit mask has fewer rows than its sequence has queries");
  HARRIER_CHECK(used_bytes <= row_bytes, "a bit mask has fewer columns than its sequence has keys");

  const int64_t first_row = ((range.batch % view.shape[0]) * view.shape[1] + range.head % view.shape[1]) * row_count;
  rows.every.assign(static_cast<size_t>(used_bytes), 0xff);
  rows.any.assign(static_cast<size_t>(used_bytes), 0);
  for (int64_t q = range.q_begin; q < range.q_end; ++q) {
    const uint8_t* row = static_cast<const uint8_t*>(view.data) + (first_row + q) * row_bytes;
    for (int64_t byte = 0; byte < used_bytes; ++byte) {
      rows.every[byte] &= row[byte];
      rows.any[byte] |= row[byte];
    }
  }
  for (int64_t byte = 0; byte < used_bytes; ++byte) {
    const int64_t begin = byte * 8;
    const int64_t end = std::min(begin + 8, key_length);
    if (rows.any[byte] == 0) continue;
    if (rows.every[byte] == 0xff) {
      append(out, {begin, end, 1, 1});
      continue;
    }
    for (int64_t k = begin; k < end; ++k) {
      append(out, {k, k + 1, (rows.every[byte] >> (k & 7)) & 1, (rows.any[byte] >> (k & 7)) & 1});
    }
  }
}

void block_intervals(const BlockLists& lists, const QueryRange& range, int64_t key_length, IntervalSet& scratch,
                     IntervalSet& out) {
  const int64_t first = range.q_begin / lists.size;
  const int64_t last = (range.q_end - 1) / lists.size;
  out.clear();
  append_row(block_row(lists, range.batch, range.head, first), lists.size, key_length, out);
  IntervalSet joined;
  for (int64_t row = first + 1; row <= last; ++row) {
    scratch.clear();
    append_row(block_row(lists, range.batch, range.head, row), lists.size, key_length, scratch);
    join_queries(out, scratch, joined);
    std::swap(out, joined);
  }
}

int32_t block_count(const BlockLists& lists, int64_t batch, int64_t head, int64_t query, int64_t key) {
  const BlockRow row = block_row(lists, batch, head, query / lists.size);
  const auto found = std::ranges::lower_bound(row.blocks, static_cast<int32_t>(key / lists.size));
  if (found == row.blocks.end() || *found != key / lists.size) return 0;
  return row.counts[static_cast<size_t>(found - row.blocks.begin())];
}

void where_intervals(const Expression& condition, const BoundPattern& bound, const Sequence& sequence,
                     const QueryRange& range, IntervalSet& out) {
  out.clear();
  if (sequence.key_length == 0) return;
  VariableRanges box{
      .b = {range.batch, range.batch},
      .h = {range.head, range.head},
      .q = {range.q_begin, range.q_end - 1},
      .k = {},
      .q_len = {sequence.query_length, sequence.query_length},
      .kv_len = {sequence.key_length, sequence.key_length},
      .q_token = {sequence.query_token + range.q_begin, sequence.query_token + range.q_end - 1},
      .k_token = {},
  };
  bisect(condition, bound, sequence, range, box, 0, sequence.key_length, out);
}

}  // namespace harrier
