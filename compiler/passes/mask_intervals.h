// Key intervals of a whole mask for a range of queries.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/passes/array_intervals.h"
#include "ir/mask.h"

namespace harrier {

/// True when different heads may see different keys.
bool depends_on_head(const Mask& mask, const BoundPattern& bound);

/// Evaluates one mask for many query ranges, keeping its buffers between them: no allocation a range once warm.
/// Cheapest when ranges come sequence by sequence. Everything passed in must outlive it. For one thread.
class MaskIntervals {
 public:
  MaskIntervals(const Mask& mask, const BoundPattern& bound, const Geometry& geometry);

  /// Bounds for every key of the sequence's extent; valid until the next call. Sound always. Exact for one query when
  /// range.leaf_keys is 1; for several queries, exact where every atom is an interval for them all.
  const IntervalSet& over(const QueryRange& range);

 private:
  /// One node of the mask with its buffers. Operands come before their operator.
  struct Node {
    const Mask* mask = nullptr;
    std::vector<size_t> operands;
    const BlockLists* table = nullptr;
    int64_t prepared_batch = -1;  // the sequence that `documents` or `tokens` stand for
    DocumentIndex documents;
    IntervalSet tokens;
    BitRows bit_rows;
    IntervalSet result;
    IntervalSet scratch;
  };

  size_t add_nodes(const Mask& mask, size_t& next_table);
  void evaluate(Node& node, const QueryRange& range);
  void evaluate_global(Node& node, const Global& atom, const QueryRange& range);

  const BoundPattern& bound_;
  const Geometry& geometry_;
  std::vector<Node> nodes_;
};

}  // namespace harrier
