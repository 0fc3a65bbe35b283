// A scalar interpreter of lowered expressions over bound arrays: what a kernel computes, one pair at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "compiler/bind.h"
#include "ir/error.h"
#include "ir/lowered.h"
#include "ir/match.h"

namespace harrier {

struct LoweredPosition {
  int64_t b;
  int64_t h;
  int64_t q;
  int64_t k;
  const Sequence& sequence;
  double score;
  const std::vector<int64_t>& table_counts;
};

/// A bool and an int are whole numbers.
struct LoweredValue {
  ExpressionType type;
  double number;
};

class LoweredInterpreter {
 public:
  LoweredInterpreter(const LoweredPattern& lowered, const BoundPattern& bound) : lowered_(lowered), bound_(bound) {}

  LoweredValue operator()(const Expression& expression, const LoweredPosition& at) const {
    const ExpressionType type = type_of(expression);
    const double number = match(
        expression.node, [](const IntLiteral& literal) { return static_cast<double>(literal.value); },
        [](const FloatLiteral& literal) { return literal.value; },
        [&](const Variable& variable) { return value_of(variable.kind, at); },
        [&](const Load& load) { return value_of(load, at); },
        [&](const Unary& node) { return apply(node.kind, type, (*this)(*node.operand, at).number); },
        [&](const Binary& node) { return apply(node.kind, type, (*this)(*node.left, at), (*this)(*node.right, at)); },
        [&](const Select& node) {
          const bool condition = (*this)(*node.condition, at).number != 0;
          return (*this)(condition ? *node.if_true : *node.if_false, at).number;
        },
        [&](const Parameter& parameter) {
          return parameter.is_float ? double{bound_.float_parameters.at(parameter.index)}
                                    : double{static_cast<double>(bound_.int_parameters.at(parameter.index))};
        },
        [&](const TileCount& count) { return static_cast<double>(at.table_counts.at(count.slot)); });
    return {type, number};
  }

 private:
  static double wrapped(int64_t value) { return static_cast<int32_t>(static_cast<uint32_t>(value)); }

  static double value_of(VariableKind kind, const LoweredPosition& at) {
    switch (kind) {
      case VariableKind::kBatch:
        return static_cast<double>(at.b);
      case VariableKind::kHead:
        return static_cast<double>(at.h);
      case VariableKind::kQuery:
        return static_cast<double>(at.q);
      case VariableKind::kKey:
        return static_cast<double>(at.k);
      case VariableKind::kScore:
        return at.score;
      case VariableKind::kQueryLength:
        return static_cast<double>(at.sequence.query_length);
      case VariableKind::kKeyLength:
        return static_cast<double>(at.sequence.key_length);
      case VariableKind::kQueryToken:
        return static_cast<double>(at.sequence.query_token + at.q);
      case VariableKind::kKeyToken:
        return static_cast<double>(at.sequence.key_token + at.k);
    }
    return 0;
  }

  double value_of(const Load& load, const LoweredPosition& at) const {
    for (size_t slot = 0; slot < lowered_.arrays.size(); ++slot) {
      if (lowered_.arrays[slot].name != load.array) continue;
      HARRIER_CHECK(lowered_.arrays[slot].rank == static_cast<int>(load.indices.size()), "a load of another rank");
      const BoundArray& array = bound_.arrays.at(slot);
      int64_t offset = 0;
      for (size_t i = 0; i < load.indices.size(); ++i) {
        offset += static_cast<int64_t>((*this)(load.indices[i], at).number) * array.strides[i];
      }
      switch (lowered_.arrays[slot].element) {
        case ArraySlot::Element::kInt32:
          return static_cast<const int32_t*>(array.data)[offset];
        case ArraySlot::Element::kUInt8:
          return static_cast<const uint8_t*>(array.data)[offset];
        case ArraySlot::Element::kFloat32:
          return static_cast<const float*>(array.data)[offset];
      }
    }
    throw InternalError("no slot for " + load.array);
  }

  static double apply(UnaryKind kind, ExpressionType type, double x) {
    switch (kind) {
      case UnaryKind::kNegate:
        return type == ExpressionType::kFloat ? -x : wrapped(-static_cast<int64_t>(x));
      case UnaryKind::kNot:
        return x == 0 ? 1 : 0;
      case UnaryKind::kAbs:
        return type == ExpressionType::kFloat ? std::abs(x) : wrapped(std::abs(static_cast<int64_t>(x)));
      case UnaryKind::kExp:
        return std::exp(x);
      case UnaryKind::kLog:
        return std::log(x);
      case UnaryKind::kSqrt:
        return std::sqrt(x);
      case UnaryKind::kTanh:
        return std::tanh(x);
    }
    return 0;
  }

  static int64_t floor_divide(int64_t a, int64_t b) {
    if (b == 0) return 0;
    return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
  }

  static double apply(BinaryKind kind, ExpressionType type, LoweredValue left, LoweredValue right) {
    const double x = left.number;
    const double y = right.number;
    const bool is_float = type == ExpressionType::kFloat;
    const auto a = is_float ? 0 : static_cast<int64_t>(x);
    const auto b = is_float ? 0 : static_cast<int64_t>(y);
    switch (kind) {
      case BinaryKind::kAdd:
        return is_float ? x + y : wrapped(a + b);
      case BinaryKind::kSubtract:
        return is_float ? x - y : wrapped(a - b);
      case BinaryKind::kMultiply:
        return is_float ? x * y : wrapped(a * b);
      case BinaryKind::kDivide:
        return is_float ? x / y : wrapped(floor_divide(a, b));
      case BinaryKind::kModulo:
        return is_float ? x - std::floor(x / y) * y : (b == 0 ? 0 : wrapped(a - floor_divide(a, b) * b));
      case BinaryKind::kMin:
        return std::min(x, y);
      case BinaryKind::kMax:
        return std::max(x, y);
      case BinaryKind::kLess:
        return x < y ? 1 : 0;
      case BinaryKind::kLessEqual:
        return x <= y ? 1 : 0;
      case BinaryKind::kGreater:
        return x > y ? 1 : 0;
      case BinaryKind::kGreaterEqual:
        return x >= y ? 1 : 0;
      case BinaryKind::kEqual:
        return x == y ? 1 : 0;
      case BinaryKind::kNotEqual:
        return x != y ? 1 : 0;
      case BinaryKind::kAnd:
        return x != 0 && y != 0 ? 1 : 0;
      case BinaryKind::kOr:
        return x != 0 || y != 0 ? 1 : 0;
      case BinaryKind::kBitAnd:
        return wrapped(a & b);
      case BinaryKind::kBitOr:
        return wrapped(a | b);
      case BinaryKind::kBitXor:
        return wrapped(a ^ b);
      case BinaryKind::kShiftLeft:
        return wrapped(static_cast<int64_t>(static_cast<uint64_t>(a) << (b & 31)));
      case BinaryKind::kShiftRight:
        return wrapped(a >> (b & 31));
    }
    return 0;
  }

  const LoweredPattern& lowered_;
  const BoundPattern& bound_;
};

}  // namespace harrier
