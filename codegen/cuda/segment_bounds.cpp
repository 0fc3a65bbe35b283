#include "codegen/cuda/segment_bounds.h"

#include <algorithm>
#include <optional>

#include "ir/match.h"

namespace harrier {
namespace {

using namespace harrier::var;

Expression aligned_query() { return q() + (kv_len() - q_len()); }

/// The place of an element that belongs to the query's own position, as lower_pattern writes it.
Expression place_of(const Expression& position) { return k_token() - k() + position; }

/// The segments that `condition` compares the query's and the key's of.
std::optional<std::string> compared_segments(const Expression& condition) {
  const auto* comparison = std::get_if<Binary>(&condition.node);
  if (comparison == nullptr || comparison->kind != BinaryKind::kEqual) return std::nullopt;
  const auto* of_query = std::get_if<Load>(&comparison->left->node);
  if (of_query == nullptr) return std::nullopt;
  const Expression position = binary(BinaryKind::kMax, aligned_query(), constant(int64_t{0}));
  const bool documents =
      condition == equal(load(of_query->array, {place_of(position)}), load(of_query->array, {k_token()}));
  return documents ? std::optional(of_query->array) : std::nullopt;
}

/// Rewrites conditions and remembers the segments that it meets.
class Rewriter {
 public:
  explicit Rewriter(LoweredPattern& lowered) : lowered_(lowered) {}

  Expression operator()(const Expression& expression) {
    if (const auto segments = compared_segments(expression)) return bounded(*segments);
    return match(
        expression.node, [&](const Unary& node) { return unary(node.kind, (*this)(*node.operand)); },
        [&](const Binary& node) {
          Expression left = (*this)(*node.left);
          return binary(node.kind, std::move(left), (*this)(*node.right));
        },
        [&](const Select& node) {
          Expression condition = (*this)(*node.condition), if_true = (*this)(*node.if_true);
          return select(std::move(condition), std::move(if_true), (*this)(*node.if_false));
        },
        [&](const auto&) { return expression; });
  }

 private:
  Expression bounded(const std::string& segments) {
    // Kernels ask for queries past the last one too, and drop the answer.
    const Expression inside =
        binary(BinaryKind::kMax, binary(BinaryKind::kMin, aligned_query(), kv_len() - constant(int64_t{1})),
               constant(int64_t{0}));
    return bound(segments + kSegmentBegin, inside) <= k() && k() < bound(segments + kSegmentEnd, inside);
  }

  Expression bound(const std::string& array, const Expression& position) {
    if (std::ranges::find(lowered_.arrays, array, &ArraySlot::name) == lowered_.arrays.end()) {
      lowered_.arrays.push_back({array, ArraySlot::Element::kInt32, 1});
    }
    return load(array, {place_of(position)});
  }

  LoweredPattern& lowered_;
};

}  // namespace

bool is_segment_bound(const std::string& array) {
  return array.ends_with(kSegmentBegin) || array.ends_with(kSegmentEnd);
}

LoweredPattern bound_segments(const LoweredPattern& lowered) {
  LoweredPattern result = lowered;
  if (lowered.visible) result.visible = Rewriter(result)(*lowered.visible);
  return result;
}

}  // namespace harrier
