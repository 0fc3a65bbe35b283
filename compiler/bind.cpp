#include "compiler/bind.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>
#include <string_view>

#include "compiler/bind_arrays.h"
#include "compiler/bind_blocks.h"
#include "compiler/expression_range.h"
#include "ir/error.h"
#include "ir/match.h"
#include "ir/nearest_name.h"
#include "ir/verify.h"

namespace harrier {
namespace {

std::string suggest(std::string_view name, const std::vector<std::string_view>& known) {
  const std::string_view nearest = nearest_name(name, known);
  return nearest.empty() ? std::string() : fmt::format(" (did you mean @{}?)", nearest);
}

void check_names(const std::vector<ArrayUse>& uses, const Bindings& bindings) {
  std::vector<std::string_view> used;
  for (const ArrayUse& use : uses) used.push_back(use.name);
  for (const auto& [name, view] : bindings) {
    if (std::ranges::find(used, name) != used.end()) continue;
    throw InvalidInput(fmt::format("array @{} is bound, but the pattern names no such array{}; leave it out", name,
                                   suggest(name, used)));
  }
  for (const ArrayUse& use : uses) {
    if (bindings.contains(use.name)) continue;
    throw InvalidInput(fmt::format("array @{} ({}) of the pattern is not bound; bind it", use.name, name_of(use.role)));
  }
}

void check_memory(const Bindings& bindings) {
  for (const auto& [name, view] : bindings) {
    const int64_t count = element_count(view.shape);
    if (count > 0 && view.data == nullptr) {
      throw InvalidInput(
          fmt::format("array @{} has shape {} but no data; give it memory", name, print_shape(view.shape)));
    }
    if (count > std::numeric_limits<int64_t>::max() / bytes_of(view.type)) {
      throw InvalidInput(
          fmt::format("array @{} of shape {} passes 2^63 bytes; use a smaller one", name, print_shape(view.shape)));
    }
  }
}

void check_geometry(const Geometry& geometry) {
  for (size_t b = 0; b < geometry.sequences.size(); ++b) {
    const Sequence& sequence = geometry.sequences[b];
    const int64_t longest = std::max(sequence.query_length, sequence.key_length);
    if (longest > kMaxInt32) {
      throw InvalidInput(fmt::format("sequence {} has {} tokens, the limit is {}; split it", b, longest, kMaxInt32));
    }
  }
}

void bind_array(BindState& state, const ArrayUse& use) {
  switch (use.role) {
    case ArrayRole::kGlobalTokens:
      return bind_global_tokens(state, use.name);
    case ArrayRole::kSegment:
      return bind_segments(state, use.name);
    case ArrayRole::kBits:
      return bind_bits(state, use.name);
    case ArrayRole::kBias:
      return bind_bias(state, use.name);
    case ArrayRole::kAlibiSlopes:
    case ArrayRole::kSinkLogits:
      return bind_per_head(state, use.name, name_of(use.role));
    case ArrayRole::kExpressionInt:
    case ArrayRole::kExpressionFloat:
      if (use.rank > kMaxArrayRank) {
        throw InvalidInput(fmt::format("array @{} is read with {} indices, the limit is {}; flatten some of them",
                                       use.name, use.rank, kMaxArrayRank));
      }
      return bind_expression_array(state, use.name, use.rank, use.role == ArrayRole::kExpressionFloat);
    case ArrayRole::kBlockTable:
    case ArrayRole::kBlockOffsets:
    case ArrayRole::kBlockIndices:
    case ArrayRole::kRandomBlocks:
      // Block lists are made from them atom by atom; here they stay as the caller gave them.
      state.bound.views[use.name] = view_of(state, use.name);
  }
}

/// Appends the lists of every block atom, depth first and left to right.
void bind_tables(BindState& state, const Mask& mask) {
  const auto bind_all = [&](const std::vector<Mask>& operands) {
    for (const Mask& operand : operands) bind_tables(state, operand);
  };
  match(
      mask.node, [&](const Blocks& blocks) { state.bound.tables.push_back(bind_blocks(state, blocks)); },
      [&](const BigBird& bigbird) { state.bound.tables.push_back(bind_bigbird(state, bigbird)); },
      [&](const And& both) { bind_all(both.operands); }, [&](const Or& either) { bind_all(either.operands); },
      [&](const Not& negation) { bind_tables(state, *negation.operand); }, [](const auto&) {});
}

/// Proves that no index of a load leaves its array, for any position of any sequence.
class IndexProver {
 public:
  explicit IndexProver(const BindState& state) : state_(state) {}

  void prove(const Mask& mask) const {
    match(
        mask.node, [&](const Where& where) { prove(where.condition); }, [&](const And& both) { prove(both.operands); },
        [&](const Or& either) { prove(either.operands); }, [&](const Not& negation) { prove(*negation.operand); },
        [](const auto&) {});
  }

  void prove(const Expression& expression) const {
    match(
        expression.node,
        [&](const Load& load) {
          for (const Expression& index : load.indices) prove(index);
          prove(load);
        },
        [&](const Unary& unary) { prove(*unary.operand); },
        [&](const Binary& binary) {
          prove(*binary.left);
          prove(*binary.right);
        },
        [&](const Select& select) {
          prove(*select.condition);
          prove(*select.if_true);
          prove(*select.if_false);
        },
        [](const auto&) {});
  }

 private:
  void prove(const std::vector<Mask>& operands) const {
    for (const Mask& operand : operands) prove(operand);
  }

  void prove(const Load& load) const {
    const std::vector<int64_t>& shape = state_.bound.views.at(load.array).shape;
    for (int64_t b = 0; b < state_.batch && !load.indices.empty(); ++b) {
      const Sequence& sequence = state_.geometry.sequences[static_cast<size_t>(b)];
      // A sequence without a pair evaluates nothing.
      if (sequence.query_length == 0 || sequence.key_length == 0) continue;
      const VariableRanges box = box_of(sequence, b);
      for (size_t i = 0; i < load.indices.size(); ++i) check(load, i, box, shape[i]);
    }
  }

  void check(const Load& load, size_t place, const VariableRanges& box, int64_t dimension) const {
    const std::optional<Range> range = range_of(load.indices[place], box, state_.bound);
    if (range && range->low >= 0 && range->high < dimension) return;
    const std::string reach = range ? fmt::format("{} to {}", range->low, range->high) : "any number";
    throw InvalidInput(fmt::format(
        "index {} of @{} may be {} in sequence {}, but that dimension has {}; write max(0, min(..., {})) or "
        "bind a larger array",
        place, load.array, reach, box.b.low, dimension, std::max<int64_t>(0, dimension - 1)));
  }

  VariableRanges box_of(const Sequence& sequence, int64_t b) const {
    const auto up_to = [](int64_t first, int64_t length) { return Range{.low = first, .high = first + length - 1}; };
    return {.b = {b, b},
            .h = up_to(0, state_.shape.heads),
            .q = up_to(0, sequence.query_length),
            .k = up_to(0, sequence.key_length),
            .q_len = {sequence.query_length, sequence.query_length},
            .kv_len = {sequence.key_length, sequence.key_length},
            .q_token = up_to(sequence.query_token, sequence.query_length),
            .k_token = up_to(sequence.key_token, sequence.key_length)};
  }

  const BindState& state_;
};

void bind_parameters(const LoweredPattern& lowered, BoundPattern& bound) {
  for (const int64_t value : lowered.int_values) {
    if (value < std::numeric_limits<int32_t>::min() || value > kMaxInt32) {
      throw InvalidInput(fmt::format(
          "number {} of the pattern is past int32, the limit is {}; use inf or a smaller number", value, kMaxInt32));
    }
    bound.int_parameters.push_back(static_cast<int32_t>(value));
  }
  for (const double value : lowered.float_values) bound.float_parameters.push_back(static_cast<float>(value));
}

}  // namespace

Bindings without_needless(const Pattern& simplified, const std::vector<std::string>& written, Bindings bindings) {
  std::set<std::string> needless(written.begin(), written.end());
  for (const ArrayUse& use : array_uses(simplified)) needless.erase(use.name);
  for (const std::string& name : needless) bindings.erase(name);
  return bindings;
}

BoundPattern bind(const Pattern& pattern, const Shape& shape, const LoweredPattern& lowered, const Geometry& geometry,
                  const Bindings& bindings) {
  const std::vector<ArrayUse> uses = array_uses(pattern);
  check_names(uses, bindings);
  check_memory(bindings);
  check_geometry(geometry);

  BoundPattern bound;
  BindState state{.shape = shape,
                  .geometry = geometry,
                  .bindings = bindings,
                  .bound = bound,
                  .batch = static_cast<int64_t>(geometry.sequences.size())};
  for (const Sequence& sequence : geometry.sequences) {
    state.max_query_length = std::max(state.max_query_length, sequence.query_length);
    state.max_key_length = std::max(state.max_key_length, sequence.key_length);
  }
  for (const ArrayUse& use : uses) bind_array(state, use);
  bind_tables(state, pattern.mask);
  bind_parameters(lowered, bound);

  const IndexProver prover(state);
  prover.prove(pattern.mask);
  if (pattern.score.expression) prover.prove(*pattern.score.expression);

  for (const ArraySlot& slot : lowered.arrays) {
    const auto found = state.slots.find(slot.name);
    HARRIER_CHECK(found != state.slots.end(),
                  "lowering asks for the array " + slot.name + " that binding has not made");
    bound.arrays.push_back(found->second.array);
    bound.array_elements.push_back(found->second.elements);
  }
  return bound;
}

}  // namespace harrier
