#include "compiler/expression_range.h"

#include <algorithm>
#include <array>

#include "compiler/range_arithmetic.h"
#include "ir/launch.h"
#include "ir/match.h"

namespace harrier {
namespace {

// Above this many elements a load takes the range of its whole array.
constexpr int64_t kMaxScannedElements = 4096;

// Factors of a linear form stay small enough that no sum over a tree can leave 64 bits.
constexpr int64_t kMaxFactor = int64_t{1} << 20;

Range variable_range(VariableKind kind, const VariableRanges& variables) {
  switch (kind) {
    case VariableKind::kBatch:
      return variables.b;
    case VariableKind::kHead:
      return variables.h;
    case VariableKind::kQuery:
      return variables.q;
    case VariableKind::kKey:
      return variables.k;
    case VariableKind::kQueryLength:
      return variables.q_len;
    case VariableKind::kKeyLength:
      return variables.kv_len;
    case VariableKind::kQueryToken:
      return variables.q_token;
    case VariableKind::kKeyToken:
      return variables.k_token;
    case VariableKind::kScore:
      break;
  }
  return kInt32;
}

/// A sum of variables, each times a factor, and of a rest that lies in a range.
struct LinearForm {
  static constexpr size_t kVariables = 9;
  std::array<int64_t, kVariables> factors{};
  Range rest{.low = 0, .high = 0};

  int64_t& factor(VariableKind kind) { return factors[static_cast<size_t>(kind)]; }
};

class RangeReader {
 public:
  RangeReader(const VariableRanges& variables, const BoundPattern& bound) : variables_(variables), bound_(bound) {}

  std::optional<Range> read(const Expression& expression) const {
    return match(
        expression.node,
        [](const IntLiteral& literal) -> std::optional<Range> {
          return wrapped({.low = literal.value, .high = literal.value});
        },
        [](const FloatLiteral&) -> std::optional<Range> { return std::nullopt; },
        [&](const Variable& variable) -> std::optional<Range> {
          if (variable.kind == VariableKind::kScore) return std::nullopt;
          return wrapped(variable_range(variable.kind, variables_));
        },
        [&](const Load& load) { return read_load(load); },
        [&](const Unary& unary) { return read_unary(unary, expression); },
        [&](const Binary& binary) { return read_binary(binary, expression); },
        [&](const Select& select) { return read_select(select); },
        [&](const Parameter& parameter) -> std::optional<Range> {
          if (parameter.is_float) return std::nullopt;
          const int64_t value = bound_.int_parameters[static_cast<size_t>(parameter.index)];
          return Range{.low = value, .high = value};
        },
        // A key run has 8 bits for each count.
        [](const TileCount&) -> std::optional<Range> { return Range{.low = 0, .high = 255}; });
  }

 private:
  std::optional<Range> read_unary(const Unary& unary, const Expression& expression) const {
    switch (unary.kind) {
      case UnaryKind::kNegate:
        return read_linear(expression);
      case UnaryKind::kNot: {
        const Range operand = truth(read(*unary.operand));
        return Range{.low = 1 - operand.high, .high = 1 - operand.low};
      }
      case UnaryKind::kAbs: {
        const std::optional<Range> operand = read(*unary.operand);
        if (!operand) return std::nullopt;
        return absolute(*operand);
      }
      default:
        return std::nullopt;
    }
  }

  std::optional<Range> read_binary(const Binary& binary, const Expression& expression) const {
    if (binary.kind == BinaryKind::kAdd || binary.kind == BinaryKind::kSubtract) return read_linear(expression);
    const std::optional<Range> left = read(*binary.left);
    const std::optional<Range> right = read(*binary.right);
    switch (binary.kind) {
      case BinaryKind::kAnd:
      case BinaryKind::kOr:
        return calculate(binary.kind, truth(left), truth(right));
      case BinaryKind::kLess:
      case BinaryKind::kLessEqual:
      case BinaryKind::kGreater:
      case BinaryKind::kGreaterEqual:
      case BinaryKind::kEqual:
      case BinaryKind::kNotEqual:
        if (!left || !right) return kUndecided;
        return calculate(binary.kind, *left, *right);
      default:
        break;
    }
    if (!left || !right) return std::nullopt;
    return calculate(binary.kind, *left, *right);
  }

  std::optional<Range> read_select(const Select& select) const {
    const Range condition = truth(read(*select.condition));
    const std::optional<Range> if_true = read(*select.if_true);
    const std::optional<Range> if_false = read(*select.if_false);
    if (!if_true || !if_false) return std::nullopt;
    if (is_single(condition)) return condition.low != 0 ? if_true : if_false;
    return hull(*if_true, *if_false);
  }

  /// Sums and differences, with variables that cancel or move together taken as one: q - q is 0, and inside one
  /// sequence k_token - k is a constant. Wrapping once at the end is right because wrapping commutes with + and -.
  std::optional<Range> read_linear(const Expression& expression) const {
    LinearForm form;
    if (!collect(expression, 1, form)) return std::nullopt;
    if (is_single(variables_.b)) {
      fold_token(form, VariableKind::kQueryToken, VariableKind::kQuery);
      fold_token(form, VariableKind::kKeyToken, VariableKind::kKey);
    }
    Range sum = form.rest;
    for (size_t i = 0; i < LinearForm::kVariables; ++i) {
      const int64_t factor = form.factors[i];
      if (factor == 0) continue;
      const Range range = variable_range(static_cast<VariableKind>(i), variables_);
      const Range term = hull({factor * range.low, factor * range.high});
      sum = {.low = sum.low + term.low, .high = sum.high + term.high};
    }
    return wrapped(sum);
  }

  /// Rewrites the token as its position plus the sequence's first token, where the box shows which that is.
  void fold_token(LinearForm& form, VariableKind token, VariableKind position) const {
    const Range tokens = variable_range(token, variables_);
    const Range positions = variable_range(position, variables_);
    const int64_t first = tokens.low - positions.low;
    if (first != tokens.high - positions.high) return;
    const int64_t factor = form.factor(token);
    form.factor(position) += factor;
    form.factor(token) = 0;
    form.rest = {.low = form.rest.low + factor * first, .high = form.rest.high + factor * first};
  }

  bool collect(const Expression& expression, int64_t factor, LinearForm& form) const {
    if (const auto* variable = std::get_if<Variable>(&expression.node)) {
      if (variable->kind == VariableKind::kScore) return false;
      form.factor(variable->kind) += factor;
      return true;
    }
    if (const auto* unary = std::get_if<Unary>(&expression.node)) {
      if (unary->kind == UnaryKind::kNegate) return collect(*unary->operand, -factor, form);
    } else if (const auto* binary = std::get_if<Binary>(&expression.node)) {
      if (binary->kind == BinaryKind::kAdd || binary->kind == BinaryKind::kSubtract) {
        return collect(*binary->left, factor, form) &&
               collect(*binary->right, binary->kind == BinaryKind::kAdd ? factor : -factor, form);
      }
      if (binary->kind == BinaryKind::kMultiply) {
        const auto* literal = std::get_if<IntLiteral>(&binary->right->node);
        if (literal != nullptr && std::abs(literal->value) <= kMaxFactor / std::abs(factor)) {
          if (literal->value != 0) return collect(*binary->left, factor * literal->value, form);
        }
      }
    }
    const std::optional<Range> leaf = read(expression);
    if (!leaf) return false;
    const Range term = hull({factor * leaf->low, factor * leaf->high});
    form.rest = {.low = form.rest.low + term.low, .high = form.rest.high + term.high};
    return true;
  }

  std::optional<Range> read_load(const Load& load) const {
    if (load.is_float) return std::nullopt;
    const auto found = bound_.views.find(load.array);
    if (found == bound_.views.end()) return kInt32;
    const ArrayView& array = found->second;
    // Offsets of the touched box's first element, and its size in each dimension.
    std::array<int64_t, kMaxArrayRank> sizes{1, 1, 1, 1};
    std::array<int64_t, kMaxArrayRank> strides{};
    if (load.indices.size() > size_t{kMaxArrayRank} || load.indices.size() != array.shape.size())
      return whole_array(load.array);
    int64_t first = 0;
    int64_t touched = 1;
    int64_t stride = 1;
    for (size_t i = load.indices.size(); i-- > 0;) {
      const int64_t dimension = array.shape[i];
      if (dimension == 0) return kInt32;
      Range index = read(load.indices[i]).value_or(kInt32);
      index = {.low = std::clamp<int64_t>(index.low, 0, dimension - 1),
               .high = std::clamp<int64_t>(index.high, 0, dimension - 1)};
      sizes[i] = index.high - index.low + 1;
      if (touched > kMaxScannedElements) return whole_array(load.array);
      touched *= sizes[i];
      strides[i] = stride;
      first += index.low * stride;
      stride *= dimension;
    }
    if (touched > kMaxScannedElements) return whole_array(load.array);
    return scan(static_cast<const int32_t*>(array.data) + first, sizes, strides);
  }

  static Range scan(const int32_t* data, const std::array<int64_t, 4>& sizes, const std::array<int64_t, 4>& strides) {
    int32_t low = *data;
    int32_t high = *data;
    for (int64_t i = 0; i < sizes[0]; ++i) {
      for (int64_t j = 0; j < sizes[1]; ++j) {
        for (int64_t m = 0; m < sizes[2]; ++m) {
          for (int64_t n = 0; n < sizes[3]; ++n) {
            const int32_t value = data[i * strides[0] + j * strides[1] + m * strides[2] + n * strides[3]];
            low = std::min(low, value);
            high = std::max(high, value);
          }
        }
      }
    }
    return {.low = low, .high = high};
  }

  Range whole_array(const std::string& name) const {
    const auto found = bound_.int_extremes.find(name);
    return found == bound_.int_extremes.end() ? kInt32
                                              : Range{.low = found->second.first, .high = found->second.second};
  }

  const VariableRanges& variables_;
  const BoundPattern& bound_;
};

}  // namespace

std::optional<Range> range_of(const Expression& expression, const VariableRanges& variables,
                              const BoundPattern& bound) {
  return RangeReader(variables, bound).read(expression);
}

}  // namespace harrier
