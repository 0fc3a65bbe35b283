#include <algorithm>
#include <variant>

#include "compiler/bind.h"
#include "compiler/harrier.h"
#include "compiler/passes/lower_pattern.h"
#include "compiler/passes/mask_intervals.h"
#include "ir/error.h"

namespace harrier {
namespace {

/// Queries counted together at first: enough that dense stretches cost little, few enough that a range of rows that
/// differ is small.
constexpr int64_t kFirstRange = 64;

/// Pairs of `range` with keys below `key_end`. Ranges whose rows differ are halved, down to one query, where intervals
/// are exact; single pairs are looked at only where an expression forces it.
int64_t count_range(MaskIntervals& intervals, QueryRange range, int64_t key_end) {
  const int64_t queries = range.q_end - range.q_begin;
  range.leaf_keys = queries;
  const IntervalSet& visible = intervals.over(range);
  if (is_exact(visible)) return count_keys(visible, key_end) * queries;
  HARRIER_CHECK(queries > 1, "the keys of a single query are not known exactly");
  QueryRange lower = range;
  QueryRange upper = range;
  lower.q_end = upper.q_begin = range.q_begin + queries / 2;
  return count_range(intervals, lower, key_end) + count_range(intervals, upper, key_end);
}

}  // namespace

int64_t count_visible_pairs(const Pattern& pattern, const Shape& shape, const Geometry& geometry,
                            const Bindings& bindings) {
  const BoundPattern bound = harrier::bind(pattern, shape, lower_pattern(pattern, shape), geometry, bindings);
  const int64_t heads = depends_on_head(pattern.mask, bound) ? shape.heads : 1;
  const bool sees_padding = std::holds_alternative<PaddingAdditive>(pattern.padding);
  MaskIntervals intervals(pattern.mask, bound, geometry);
  int64_t pairs = 0;
  for (int64_t batch = 0; batch < std::ssize(geometry.sequences); ++batch) {
    const Sequence& sequence = geometry.sequences[batch];
    const int64_t key_end = sees_padding ? sequence.key_length : sequence.key_valid;
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t q = 0; q < sequence.query_valid; q += kFirstRange) {
        const int64_t end = std::min(q + kFirstRange, sequence.query_valid);
        pairs +=
            count_range(intervals, {.batch = batch, .head = head, .q_begin = q, .q_end = end, .leaf_keys = 1}, key_end);
      }
    }
  }
  return heads == 1 ? pairs * shape.heads : pairs;
}

}  // namespace harrier
