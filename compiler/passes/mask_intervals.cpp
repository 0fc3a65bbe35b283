#include "compiler/passes/mask_intervals.h"

#include <algorithm>
#include <span>
#include <utility>

#include "ir/error.h"
#include "ir/match.h"

namespace harrier {
namespace {

/// Aligned positions q' of a range of queries: [begin, end).
struct AlignedRange {
  int64_t begin;
  int64_t end;
};

AlignedRange aligned(const Sequence& sequence, const QueryRange& range) {
  const int64_t shift = sequence.key_length - sequence.query_length;
  return {range.q_begin + shift, range.q_end + shift};
}

/// Far beyond any position, and far from overflow when added to one.
int64_t clamp_offset(int64_t offset) {
  constexpr int64_t kFar = int64_t{1} << 40;
  return std::clamp(offset, -kFar, kFar);
}

void window_intervals(int64_t left_side, int64_t right_side, AlignedRange queries, int64_t length, IntervalSet& out) {
  out.clear();
  const int64_t left = clamp_offset(left_side);
  const int64_t right = clamp_offset(right_side);
  if (right < -left) return;
  const int64_t some_begin = std::max<int64_t>(queries.begin - left, 0);
  const int64_t some_end = std::min(queries.end + right, length);
  const int64_t every_begin = std::max<int64_t>(queries.end - 1 - left, 0);
  const int64_t every_end = std::min(queries.begin + right + 1, length);
  if (every_begin >= every_end) {
    append(out, {some_begin, some_end, 0, 1});
    return;
  }
  append(out, {some_begin, every_begin, 0, 1});
  append(out, {every_begin, every_end, 1, 1});
  append(out, {every_end, some_end, 0, 1});
}

void dilated_intervals(const Dilated& atom, AlignedRange queries, int64_t length, IntervalSet& out) {
  window_intervals(atom.left, atom.right, queries, length, out);
  if (atom.step == 1 || out.empty()) return;
  if (queries.end - queries.begin > 1) {
    for (CountedInterval& interval : out) interval.low = 0;
    const CountedInterval whole{out.front().begin, out.back().end, 0, 1};
    out.assign(1, whole);
    return;
  }
  const CountedInterval window = out.front();
  const int64_t query = queries.begin;
  const int64_t remainder = ((query - window.begin) % atom.step + atom.step) % atom.step;
  out.clear();
  for (int64_t key = window.begin + remainder; key < window.end; key += atom.step) append(out, {key, key + 1, 1, 1});
}

bool uses_head(const Expression& expression) {
  const auto in_any = [](const auto&... parts) { return (uses_head(*parts) || ...); };
  return match(
      expression.node, [](const Variable& variable) { return variable.kind == VariableKind::kHead; },
      [](const Load& load) { return std::ranges::any_of(load.indices, uses_head); },
      [&](const Unary& unary) { return in_any(unary.operand); },
      [&](const Binary& binary) { return in_any(binary.left, binary.right); },
      [&](const Select& select) { return in_any(select.condition, select.if_true, select.if_false); },
      [](const auto&) { return false; });
}

bool array_has_heads(const BoundPattern& bound, const std::string& name) {
  const std::vector<int64_t>& shape = bound.views.at(name).shape;
  return shape.size() >= 3 && shape[shape.size() - 3] > 1;
}

bool atoms_depend_on_head(const Mask& mask, const BoundPattern& bound) {
  const auto any = [&](const std::vector<Mask>& operands) {
    return std::ranges::any_of(operands, [&](const Mask& operand) { return atoms_depend_on_head(operand, bound); });
  };
  return match(
      mask.node, [](const Where& atom) { return uses_head(atom.condition); },
      [&](const Bits& atom) { return array_has_heads(bound, atom.array); },
      [&](const And& node) { return any(node.operands); }, [&](const Or& node) { return any(node.operands); },
      [&](const Not& node) { return atoms_depend_on_head(*node.operand, bound); }, [](const auto&) { return false; });
}

/// Global tokens of one sequence: sorted, each once.
std::span<const int32_t> tokens_of(const BoundPattern& bound, const std::string& name, int64_t batch) {
  const TokenLists& lists = bound.tokens.at(name);
  const int64_t begin = lists.offsets[batch];
  return std::span(lists.tokens).subspan(begin, lists.offsets[batch + 1] - begin);
}

}  // namespace

bool depends_on_head(const Mask& mask, const BoundPattern& bound) {
  return std::ranges::any_of(bound.tables, [](const BlockLists& lists) { return lists.heads > 1; }) ||
         atoms_depend_on_head(mask, bound);
}

MaskIntervals::MaskIntervals(const Mask& mask, const BoundPattern& bound, const Geometry& geometry)
    : bound_(bound), geometry_(geometry) {
  size_t next_table = 0;
  add_nodes(mask, next_table);
  HARRIER_CHECK(next_table == bound.tables.size(), "binding gave another number of block tables than the mask has");
}

size_t MaskIntervals::add_nodes(const Mask& mask, size_t& next_table) {
  Node node;
  node.mask = &mask;
  const auto add_operands = [&](const std::vector<Mask>& operands) {
    for (const Mask& operand : operands) node.operands.push_back(add_nodes(operand, next_table));
  };
  const auto take_table = [&] {
    HARRIER_CHECK(next_table < bound_.tables.size(), "binding gave fewer block tables than the mask has");
    node.table = &bound_.tables[next_table++];
  };
  match(
      mask.node, [&](const And& conjunction) { add_operands(conjunction.operands); },
      [&](const Or& disjunction) { add_operands(disjunction.operands); },
      [&](const Not& negation) { node.operands.push_back(add_nodes(*negation.operand, next_table)); },
      [&](const Blocks&) { take_table(); }, [&](const BigBird&) { take_table(); }, [](const auto&) {});
  nodes_.push_back(std::move(node));
  return nodes_.size() - 1;
}

const IntervalSet& MaskIntervals::over(const QueryRange& range) {
  for (Node& node : nodes_) evaluate(node, range);
  return nodes_.back().result;
}

void MaskIntervals::evaluate(Node& node, const QueryRange& range) {
  const Sequence& sequence = geometry_.sequences[range.batch];
  const AlignedRange queries = aligned(sequence, range);
  const int64_t length = sequence.key_length;
  const auto fold = [&](auto combine) {
    node.result = nodes_[node.operands.front()].result;
    for (size_t i = 1; i < node.operands.size(); ++i) {
      combine(node.result, nodes_[node.operands[i]].result, node.scratch);
      std::swap(node.result, node.scratch);
    }
  };
  const auto assign = [&](const CountedInterval& interval) {
    node.result.clear();
    append(node.result, interval);
  };
  match(
      node.mask->node, [&](const All&) { assign({0, length, 1, 1}); }, [&](const None&) { node.result.clear(); },
      [&](const Causal&) { window_intervals(kUnbounded, 0, queries, length, node.result); },
      [&](const Window& atom) { window_intervals(atom.left, atom.right, queries, length, node.result); },
      [&](const Dilated& atom) { dilated_intervals(atom, queries, length, node.result); },
      [&](const Sink& atom) { assign({0, std::min(atom.count, length), 1, 1}); },
      [&](const Global& atom) { evaluate_global(node, atom, range); },
      [&](const Documents& atom) {
        if (node.prepared_batch != range.batch) {
          node.documents.build(bound_.segments.at(atom.segment) + sequence.key_token, length);
          node.prepared_batch = range.batch;
        }
        node.documents.intervals(queries.begin, queries.end, node.result);
      },
      [&](const Blocks&) { block_intervals(*node.table, range, length, node.scratch, node.result); },
      [&](const BigBird&) { block_intervals(*node.table, range, length, node.scratch, node.result); },
      [&](const Bits& atom) { bits_intervals(bound_.views.at(atom.array), range, length, node.bit_rows, node.result); },
      [&](const Where& atom) { where_intervals(atom.condition, bound_, sequence, range, node.result); },
      [&](const And&) { fold(intersect); }, [&](const Or&) { fold(unite); },
      [&](const Not&) { complement(nodes_[node.operands.front()].result, length, node.result); });
}

void MaskIntervals::evaluate_global(Node& node, const Global& atom, const QueryRange& range) {
  const Sequence& sequence = geometry_.sequences[range.batch];
  const AlignedRange queries = aligned(sequence, range);
  const int64_t length = sequence.key_length;
  if (node.prepared_batch != range.batch) {
    node.tokens.clear();
    if (atom.tokens.empty()) {
      append(node.tokens, {0, std::min(atom.count, length), 1, 1});
    } else {
      for (const int64_t token : tokens_of(bound_, atom.tokens, range.batch)) {
        append(node.tokens, {token, std::min(token + 1, length), 1, 1});
      }
    }
    node.prepared_batch = range.batch;
  }
  const bool sees_tokens = atom.side != GlobalSide::kQueries;
  int64_t global_queries = 0;
  if (atom.side != GlobalSide::kKeys) {
    auto token = std::ranges::upper_bound(node.tokens, queries.begin, {}, &CountedInterval::end);
    for (; token != node.tokens.end() && token->begin < queries.end; ++token) {
      global_queries += std::min(token->end, queries.end) - std::max(token->begin, queries.begin);
    }
  }
  node.result.clear();
  if (global_queries == queries.end - queries.begin) {
    append(node.result, {0, length, 1, 1});
  } else if (global_queries == 0) {
    if (sees_tokens) node.result = node.tokens;
  } else {
    node.scratch.clear();
    append(node.scratch, {0, length, 0, 1});
    if (sees_tokens) {
      unite(node.scratch, node.tokens, node.result);
    } else {
      std::swap(node.scratch, node.result);
    }
  }
}

}  // namespace harrier
