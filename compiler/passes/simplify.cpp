#include "compiler/passes/simplify.h"

#include <algorithm>
#include <string>
#include <utility>

#include "ir/match.h"
#include "ir/text.h"

namespace harrier {
namespace {

using MaybeMask = std::optional<Mask>;

template <typename Atom>
const Atom* as(const Mask& mask) {
  return std::get_if<Atom>(&mask.node);
}

bool is_all(const Mask& mask) { return as<All>(mask) != nullptr; }
bool is_none(const Mask& mask) { return as<None>(mask) != nullptr; }
bool any_counted(const std::vector<Mask>& operands) { return std::ranges::any_of(operands, is_counted); }

/// `operands` joined by & or |; one alone is itself. There is at least one.
template <typename Operator>
Mask joined(std::vector<Mask> operands) {
  if (operands.size() == 1) return std::move(operands.front());
  return {Operator{.operands = std::move(operands)}};
}

/// Rules that look at the operands of one & or |.
template <typename Operator, typename Rewrite>
MaskRule on_operands(const char* name, Rewrite rewrite) {
  return {name, [rewrite](const Mask& mask) -> MaybeMask {
            const auto* node = as<Operator>(mask);
            return node == nullptr ? std::nullopt : rewrite(node->operands);
          }};
}

/// Rules that replace two operands, in either order, by one: `rewrite(left, right)`. All pairs that match are replaced
/// in one application, so that long operand lists stay cheap.
template <typename Operator, typename Rewrite>
MaskRule on_pairs(const char* name, Rewrite rewrite) {
  return on_operands<Operator>(name, [rewrite](std::vector<Mask> operands) -> MaybeMask {
    const size_t before = operands.size();
    for (size_t i = 0; i < operands.size(); ++i) {
      for (size_t j = i + 1; j < operands.size();) {
        MaybeMask both = rewrite(operands[i], operands[j]);
        if (!both) both = rewrite(operands[j], operands[i]);
        if (both) {
          operands[i] = std::move(*both);
          operands.erase(operands.begin() + static_cast<std::ptrdiff_t>(j));
          j = i + 1;  // the new operand may match one that the old did not
        } else {
          ++j;
        }
      }
    }
    if (operands.size() == before) return std::nullopt;
    return joined<Operator>(std::move(operands));
  });
}

/// Rules about one kind of atom.
template <typename Atom, typename Rewrite>
MaskRule on_atom(const char* name, Rewrite rewrite) {
  return {name, [rewrite](const Mask& mask) -> MaybeMask {
            const auto* atom = as<Atom>(mask);
            return atom == nullptr ? std::nullopt : rewrite(*atom);
          }};
}

template <typename Operator>
MaybeMask flatten(const std::vector<Mask>& operands) {
  if (std::ranges::none_of(operands, [](const Mask& operand) { return as<Operator>(operand) != nullptr; })) return {};
  std::vector<Mask> flat;
  for (const Mask& operand : operands) {
    if (const auto* nested = as<Operator>(operand)) {
      flat.insert(flat.end(), nested->operands.begin(), nested->operands.end());
    } else {
      flat.push_back(operand);
    }
  }
  return joined<Operator>(std::move(flat));
}

template <typename Operator>
MaybeMask sort_operands(const std::vector<Mask>& operands) {
  std::vector<std::pair<std::string, size_t>> order;
  for (size_t i = 0; i < operands.size(); ++i) order.emplace_back(print(operands[i]), i);
  if (std::ranges::is_sorted(order)) return {};
  std::ranges::sort(order);
  std::vector<Mask> sorted;
  for (const auto& [text, index] : order) sorted.push_back(operands[index]);
  return joined<Operator>(std::move(sorted));
}

/// `operands` without those that `drop` names; at least one stays.
template <typename Operator, typename Predicate>
MaybeMask without(const std::vector<Mask>& operands, Predicate drop) {
  std::vector<Mask> kept;
  for (const Mask& operand : operands) {
    if (!drop(operand)) kept.push_back(operand);
  }
  if (kept.size() == operands.size()) return {};
  if (kept.empty()) return operands.front();
  return joined<Operator>(std::move(kept));
}

/// `left` where `right` is ~left.
bool is_complement(const Mask& left, const Mask& right) {
  const auto* negation = as<Not>(right);
  return negation != nullptr && *negation->operand == left;
}

template <typename Operator>
bool has_operand(const Mask& mask, const Mask& wanted) {
  const auto* node = as<Operator>(mask);
  return node != nullptr && std::ranges::find(node->operands, wanted) != node->operands.end();
}

/// ~a, where a double negation may be dropped at once.
Mask negated(const Mask& mask) {
  const auto* negation = as<Not>(mask);
  if (negation != nullptr && !is_counted(*negation->operand)) return *negation->operand;
  return ~mask;
}

/// ~a & ~b = ~(a | b), and the same with & and | exchanged. Only where all operands are negations: another beside them
/// would make the tree deeper.
template <typename Operator, typename Dual>
MaybeMask gather_negations(const std::vector<Mask>& operands) {
  std::vector<Mask> negated_operands;
  for (const Mask& operand : operands) {
    const auto* negation = as<Not>(operand);
    if (negation == nullptr) return {};
    negated_operands.push_back(*negation->operand);
  }
  return ~joined<Dual>(std::move(negated_operands));
}

/// ~(~a | b) = a & ~b, and the same with & and | exchanged, where that has fewer nodes.
template <typename Operator, typename Dual>
MaybeMask spread_negation(const Not& negation) {
  const auto* node = as<Operator>(*negation.operand);
  if (node == nullptr) return {};
  std::vector<Mask> operands;
  for (const Mask& operand : node->operands) operands.push_back(negated(operand));
  Mask spread = joined<Dual>(std::move(operands));
  if (node_count(spread) >= node_count(Mask{negation})) return {};
  return spread;
}

std::vector<MaskRule> structure_rules() {
  return {
      on_operands<And>("(a & b) & c = a & b & c", flatten<And>),
      on_operands<Or>("(a | b) | c = a | b | c", flatten<Or>),
      on_operands<And>("a & b = b & a, in the order of their text", sort_operands<And>),
      on_operands<Or>("a | b = b | a, in the order of their text", sort_operands<Or>),
      on_operands<And>("a & all = a", [](const auto& operands) { return without<And>(operands, is_all); }),
      on_operands<Or>("a | none = a", [](const auto& operands) { return without<Or>(operands, is_none); }),
      on_operands<And>("a & none = none",
                       [](const auto& operands) -> MaybeMask {
                         return std::ranges::any_of(operands, is_none) ? MaybeMask(none()) : std::nullopt;
                       }),
      // A counted operand beside `all` may exceed 1, which `all` does not.
      on_operands<Or>("a | all = all where a is not counted",
                      [](const auto& operands) -> MaybeMask {
                        if (any_counted(operands) || std::ranges::none_of(operands, is_all)) return {};
                        return all();
                      }),
  };
}

std::vector<MaskRule> algebra_rules() {
  return {
      // Counts multiply, so a counted operand may not be merged with itself.
      on_pairs<And>(
          "a & a = a where a is not counted",
          [](const Mask& a, const Mask& b) { return a == b && !is_counted(a) ? MaybeMask(a) : std::nullopt; }),
      on_pairs<Or>("a | a = a", [](const Mask& a, const Mask& b) { return a == b ? MaybeMask(a) : std::nullopt; }),
      on_pairs<And>(
          "a & ~a = none",
          [](const Mask& a, const Mask& b) { return is_complement(a, b) ? MaybeMask(none()) : std::nullopt; }),
      on_pairs<Or>("a | ~a = all where a is not counted",
                   [](const Mask& a, const Mask& b) {
                     return is_complement(a, b) && !is_counted(a) ? MaybeMask(all()) : std::nullopt;
                   }),
      on_pairs<And>("a & (a | b) = a where neither is counted",
                    [](const Mask& a, const Mask& b) {
                      return has_operand<Or>(b, a) && !is_counted(b) ? MaybeMask(a) : std::nullopt;
                    }),
      on_pairs<Or>("a | (a & b) = a where neither is counted",
                   [](const Mask& a, const Mask& b) {
                     return has_operand<And>(b, a) && !is_counted(b) ? MaybeMask(a) : std::nullopt;
                   }),
      on_atom<Not>("~all = none",
                   [](const Not& negation) { return is_all(*negation.operand) ? MaybeMask(none()) : std::nullopt; }),
      on_atom<Not>("~none = all",
                   [](const Not& negation) { return is_none(*negation.operand) ? MaybeMask(all()) : std::nullopt; }),
      on_atom<Not>("~~a = a where a is not counted",
                   [](const Not& negation) -> MaybeMask {
                     const auto* inner = as<Not>(*negation.operand);
                     if (inner == nullptr || is_counted(*inner->operand)) return {};
                     return *inner->operand;
                   }),
      on_operands<And>("~a & ~b = ~(a | b)", gather_negations<And, Or>),
      on_operands<Or>("~a | ~b = ~(a & b)", gather_negations<Or, And>),
      on_atom<Not>("~(~a | b) = a & ~b", spread_negation<Or, And>),
      on_atom<Not>("~(~a & b) = a | ~b", spread_negation<And, Or>),
  };
}

std::vector<MaskRule> atom_rules() {
  return {
      on_atom<Causal>("causal = window(inf, 0)", [](const Causal&) -> MaybeMask { return window(kUnbounded, 0); }),
      on_atom<Window>("window(inf, inf) = all",
                      [](const Window& atom) {
                        const bool unbounded = atom.left == kUnbounded && atom.right == kUnbounded;
                        return unbounded ? MaybeMask(all()) : std::nullopt;
                      }),
      on_atom<Dilated>(
          "dilated(left, right, 1) = window(left, right)",
          [](const Dilated& atom) { return atom.step == 1 ? MaybeMask(window(atom.left, atom.right)) : std::nullopt; }),
      on_atom<Sink>("sink(0) = none",
                    [](const Sink& atom) { return atom.count == 0 ? MaybeMask(none()) : std::nullopt; }),
      on_atom<Global>(
          "global(0) = none",
          [](const Global& atom) { return atom.tokens.empty() && atom.count == 0 ? MaybeMask(none()) : std::nullopt; }),
      on_atom<Global>("global(n) as keys = sink(n)",
                      [](const Global& atom) {
                        const bool is_sink = atom.tokens.empty() && atom.side == GlobalSide::kKeys;
                        return is_sink ? MaybeMask(sink(atom.count)) : std::nullopt;
                      }),
      on_atom<Where>("where(constant) = all or none",
                     [](const Where& atom) -> MaybeMask {
                       const auto* literal = std::get_if<IntLiteral>(&atom.condition.node);
                       if (literal == nullptr) return {};
                       return literal->value == 0 ? none() : all();
                     }),
  };
}

std::vector<MaskRule> atom_pair_rules() {
  return {
      on_pairs<And>("window & window = window of the smaller sides",
                    [](const Mask& a, const Mask& b) -> MaybeMask {
                      const auto* first = as<Window>(a);
                      const auto* second = as<Window>(b);
                      if (first == nullptr || second == nullptr) return {};
                      return window(std::min(first->left, second->left), std::min(first->right, second->right));
                    }),
      on_pairs<Or>("window | window = window of the larger sides",
                   [](const Mask& a, const Mask& b) -> MaybeMask {
                     const auto* first = as<Window>(a);
                     const auto* second = as<Window>(b);
                     if (first == nullptr || second == nullptr) return {};
                     return window(std::max(first->left, second->left), std::max(first->right, second->right));
                   }),
      on_pairs<And>("dilated & window = dilated of the smaller sides",
                    [](const Mask& a, const Mask& b) -> MaybeMask {
                      const auto* first = as<Dilated>(a);
                      const auto* second = as<Window>(b);
                      if (first == nullptr || second == nullptr) return {};
                      return dilated(std::min(first->left, second->left), std::min(first->right, second->right),
                                     first->step);
                    }),
      on_pairs<And>("sink(m) & sink(n) = sink(min(m, n))",
                    [](const Mask& a, const Mask& b) -> MaybeMask {
                      const auto* first = as<Sink>(a);
                      const auto* second = as<Sink>(b);
                      if (first == nullptr || second == nullptr) return {};
                      return sink(std::min(first->count, second->count));
                    }),
      on_pairs<Or>("sink(m) | sink(n) = sink(max(m, n))",
                   [](const Mask& a, const Mask& b) -> MaybeMask {
                     const auto* first = as<Sink>(a);
                     const auto* second = as<Sink>(b);
                     if (first == nullptr || second == nullptr) return {};
                     return sink(std::max(first->count, second->count));
                   }),
  };
}

Mask simplify_operands(const Mask& mask) {
  const auto each = [](const auto& node) {
    auto simplified = node;
    for (Mask& operand : simplified.operands) operand = simplify(operand);
    return Mask{std::move(simplified)};
  };
  return match(
      mask.node, [&](const And& node) { return each(node); }, [&](const Or& node) { return each(node); },
      [](const Not& node) { return ~simplify(*node.operand); }, [&](const auto&) { return mask; });
}

}  // namespace

const std::vector<MaskRule>& mask_rules() {
  // Every rule either lowers the node count, or keeps it and brings the tree closer to its one canonical spelling, so
  // applying them ends. Flattening and ordering come first because the others look at operand lists.
  static const std::vector<MaskRule> kRules = [] {
    std::vector<MaskRule> table;
    for (const auto& part : {structure_rules(), algebra_rules(), atom_rules(), atom_pair_rules()}) {
      table.insert(table.end(), part.begin(), part.end());
    }
    return table;
  }();
  return kRules;
}

int64_t node_count(const Mask& mask) {
  const auto with_operands = [](const std::vector<Mask>& operands) {
    int64_t count = 1;
    for (const Mask& operand : operands) count += node_count(operand);
    return count;
  };
  return match(
      mask.node, [&](const And& node) { return with_operands(node.operands); },
      [&](const Or& node) { return with_operands(node.operands); },
      [](const Not& node) { return 1 + node_count(*node.operand); }, [](const auto&) { return int64_t{1}; });
}

Mask simplify(const Mask& mask) {
  Mask simplified = simplify_operands(mask);
  for (const MaskRule& rule : mask_rules()) {
    if (MaybeMask simpler = rule.apply(simplified)) return simplify(*simpler);
  }
  return simplified;
}

Pattern simplify(const Pattern& pattern) {
  Pattern simplified = pattern;
  simplified.mask = simplify(pattern.mask);
  return simplified;
}

}  // namespace harrier
