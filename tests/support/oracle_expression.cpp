#include "support/oracle_expression.h"

#include <cmath>
#include <cstring>

#include "ir/error.h"
#include "ir/match.h"
#include "support/tensors.h"

namespace harrier::oracle {
namespace {

template <typename T>
T element(const ArrayView& array, int64_t index) {
  T value{};
  std::memcpy(&value, static_cast<const char*>(array.data) + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

double small_float_at(const ArrayView& array, int64_t index, DataType dtype) {
  const char* bytes = static_cast<const char*>(array.data) + index * 2;
  return decode({static_cast<uint8_t>(bytes[0]), static_cast<uint8_t>(bytes[1])}, dtype)[0];
}

/// Two's complement at 32 bits.
int64_t wrap(int64_t value) { return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint64_t>(value))); }

int64_t divide_to_floor(int64_t left, int64_t right) {
  if (right == 0) return 0;
  const int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

int64_t modulo_to_floor(int64_t left, int64_t right) {
  return right == 0 ? 0 : left - right * divide_to_floor(left, right);
}

Value make_bool(bool value) { return {.type = ExpressionType::kBool, .integer = value ? 1 : 0}; }
Value make_int(int64_t value) { return {.type = ExpressionType::kInt, .integer = wrap(value)}; }
Value make_float(double value, double slope = 0) {
  return {.type = ExpressionType::kFloat, .real = value, .slope = slope};
}

Value as_float(const Value& value) { return make_float(value.as_real(), value.slope); }

Value read_variable(VariableKind kind, const Context& context, const Position& at, const Value& score) {
  const Sequence& sequence = context.geometry.sequences.at(static_cast<size_t>(at.b));
  switch (kind) {
    case VariableKind::kBatch:
      return make_int(at.b);
    case VariableKind::kHead:
      return make_int(at.h);
    case VariableKind::kQuery:
      return make_int(at.q);
    case VariableKind::kKey:
      return make_int(at.k);
    case VariableKind::kScore:
      return score;
    case VariableKind::kQueryLength:
      return make_int(sequence.query_length);
    case VariableKind::kKeyLength:
      return make_int(sequence.key_length);
    case VariableKind::kQueryToken:
      return make_int(sequence.query_token + at.q);
    case VariableKind::kKeyToken:
      return make_int(sequence.key_token + at.k);
  }
  throw InternalError("unknown variable");
}

Value apply(UnaryKind kind, const Value& operand) {
  const bool is_float = operand.type == ExpressionType::kFloat;
  const double x = operand.as_real();
  switch (kind) {
    case UnaryKind::kNegate:
      return is_float ? make_float(-x, -operand.slope) : make_int(-operand.integer);
    case UnaryKind::kNot:
      return make_bool(!operand.is_true());
    case UnaryKind::kAbs:
      if (is_float) return make_float(std::fabs(x), x < 0 ? -operand.slope : operand.slope);
      return make_int(operand.integer < 0 ? -operand.integer : operand.integer);
    case UnaryKind::kExp:
      return make_float(std::exp(x), operand.slope * std::exp(x));
    case UnaryKind::kLog:
      return make_float(std::log(x), operand.slope == 0 ? 0 : operand.slope / x);
    case UnaryKind::kSqrt:
      return make_float(std::sqrt(x), operand.slope == 0 ? 0 : operand.slope / (2 * std::sqrt(x)));
    case UnaryKind::kTanh:
      return make_float(std::tanh(x), operand.slope * (1 - std::tanh(x) * std::tanh(x)));
  }
  throw InternalError("unknown unary operator");
}

Value apply_to_floats(BinaryKind kind, const Value& left, const Value& right) {
  const double x = left.real;
  const double y = right.real;
  switch (kind) {
    case BinaryKind::kAdd:
      return make_float(x + y, left.slope + right.slope);
    case BinaryKind::kSubtract:
      return make_float(x - y, left.slope - right.slope);
    case BinaryKind::kMultiply:
      return make_float(x * y, left.slope * y + right.slope * x);
    case BinaryKind::kDivide:
      return make_float(x / y, (left.slope * y - right.slope * x) / (y * y));
    case BinaryKind::kModulo:
      return make_float(x - y * std::floor(x / y), left.slope - right.slope * std::floor(x / y));
    case BinaryKind::kMin:
      return y < x ? right : left;
    case BinaryKind::kMax:
      return y > x ? right : left;
    case BinaryKind::kLess:
      return make_bool(x < y);
    case BinaryKind::kLessEqual:
      return make_bool(x <= y);
    case BinaryKind::kGreater:
      return make_bool(x > y);
    case BinaryKind::kGreaterEqual:
      return make_bool(x >= y);
    case BinaryKind::kEqual:
      return make_bool(x == y);
    case BinaryKind::kNotEqual:
      return make_bool(x != y);
    default:
      throw InternalError("an integer operator on floats");
  }
}

Value apply_to_ints(BinaryKind kind, int64_t x, int64_t y) {
  switch (kind) {
    case BinaryKind::kAdd:
      return make_int(x + y);
    case BinaryKind::kSubtract:
      return make_int(x - y);
    case BinaryKind::kMultiply:
      return make_int(x * y);
    case BinaryKind::kDivide:
      return make_int(divide_to_floor(x, y));
    case BinaryKind::kModulo:
      return make_int(modulo_to_floor(x, y));
    case BinaryKind::kMin:
      return make_int(y < x ? y : x);
    case BinaryKind::kMax:
      return make_int(y > x ? y : x);
    case BinaryKind::kLess:
      return make_bool(x < y);
    case BinaryKind::kLessEqual:
      return make_bool(x <= y);
    case BinaryKind::kGreater:
      return make_bool(x > y);
    case BinaryKind::kGreaterEqual:
      return make_bool(x >= y);
    case BinaryKind::kEqual:
      return make_bool(x == y);
    case BinaryKind::kNotEqual:
      return make_bool(x != y);
    case BinaryKind::kBitAnd:
      return make_int(x & y);
    case BinaryKind::kBitOr:
      return make_int(x | y);
    case BinaryKind::kBitXor:
      return make_int(x ^ y);
    case BinaryKind::kShiftLeft:
      return make_int(static_cast<int64_t>(static_cast<uint64_t>(x) << (y & 31)));
    case BinaryKind::kShiftRight:
      return make_int(x >> (y & 31));
    default:
      throw InternalError("a logical operator on ints");
  }
}

Value apply(BinaryKind kind, const Value& left, const Value& right) {
  if (kind == BinaryKind::kAnd) return make_bool(left.is_true() && right.is_true());
  if (kind == BinaryKind::kOr) return make_bool(left.is_true() || right.is_true());
  if (left.type == ExpressionType::kFloat || right.type == ExpressionType::kFloat) {
    return apply_to_floats(kind, as_float(left), as_float(right));
  }
  return apply_to_ints(kind, left.integer, right.integer);
}

/// The flat index that a load reads.
int64_t load_index(const Load& load, const Context& context, const Position& at, const Value& score) {
  const ArrayView& array = array_of(context, load.array);
  int64_t index = 0;
  for (size_t i = 0; i < load.indices.size(); ++i) {
    const int64_t position = evaluate(load.indices[i], context, at, score).integer;
    HARRIER_CHECK(position >= 0, "an index is below the array's range");
    HARRIER_CHECK(position < array.shape[i], "an index is above the array's range");
    index = index * array.shape[i] + position;
  }
  return index;
}

}  // namespace

const ArrayView& array_of(const Context& context, const std::string& name) {
  const auto found = context.bindings.find(name);
  if (found == context.bindings.end()) throw InternalError("the oracle was given no array @" + name);
  return found->second;
}

int64_t int_at(const ArrayView& array, int64_t index) {
  switch (array.type) {
    case ElementType::kBool:
    case ElementType::kUInt8:
      return element<uint8_t>(array, index);
    case ElementType::kInt8:
      return element<int8_t>(array, index);
    case ElementType::kInt16:
      return element<int16_t>(array, index);
    case ElementType::kUInt16:
      return element<uint16_t>(array, index);
    case ElementType::kInt32:
      return element<int32_t>(array, index);
    case ElementType::kUInt32:
      return element<uint32_t>(array, index);
    case ElementType::kInt64:
      return element<int64_t>(array, index);
    case ElementType::kUInt64:
      return static_cast<int64_t>(element<uint64_t>(array, index));
    default:
      throw InternalError("the oracle was given floats where ints belong");
  }
}

double float_at(const ArrayView& array, int64_t index) {
  switch (array.type) {
    case ElementType::kFloat16:
      return small_float_at(array, index, DataType::kFloat16);
    case ElementType::kBFloat16:
      return small_float_at(array, index, DataType::kBFloat16);
    case ElementType::kFloat32:
      return static_cast<double>(element<float>(array, index));
    case ElementType::kFloat64:
      return element<double>(array, index);
    default:
      return static_cast<double>(int_at(array, index));
  }
}

int64_t broadcast_index(const ArrayView& array, const std::vector<int64_t>& position) {
  int64_t index = 0;
  const size_t missing = position.size() - array.shape.size();
  for (size_t i = 0; i < array.shape.size(); ++i) {
    index = index * array.shape[i] + (array.shape[i] == 1 ? 0 : position[missing + i]);
  }
  return index;
}

Value evaluate(const Expression& expression, const Context& context, const Position& at, const Value& score) {
  const auto value_of = [&](const Expression& part) { return evaluate(part, context, at, score); };
  return match(
      expression.node, [](const IntLiteral& literal) { return make_int(literal.value); },
      [](const FloatLiteral& literal) { return make_float(literal.value); },
      [&](const Variable& variable) { return read_variable(variable.kind, context, at, score); },
      [&](const Load& load) {
        const ArrayView& array = array_of(context, load.array);
        const int64_t index = load_index(load, context, at, score);
        if (!load.is_float) return make_int(int_at(array, index));
        const bool is_seed = context.seed && *context.seed == Element{load.array, index};
        return make_float(float_at(array, index), is_seed ? 1 : 0);
      },
      [&](const Unary& node) { return apply(node.kind, value_of(*node.operand)); },
      [&](const Binary& node) { return apply(node.kind, value_of(*node.left), value_of(*node.right)); },
      [&](const Select& node) {
        const Value if_true = value_of(*node.if_true);
        const Value if_false = value_of(*node.if_false);
        const Value& chosen = value_of(*node.condition).is_true() ? if_true : if_false;
        const bool is_float = if_true.type == ExpressionType::kFloat || if_false.type == ExpressionType::kFloat;
        return is_float ? as_float(chosen) : chosen;
      },
      [](const Parameter&) -> Value { throw InternalError("a Parameter has no meaning in the language"); },
      [](const TileCount&) -> Value { throw InternalError("a TileCount has no meaning in the language"); });
}

std::set<Element> loaded_elements(const Expression& expression, const Context& context, const Position& at,
                                  const Value& score) {
  std::set<Element> elements;
  const auto add = [&](const Expression& part) { elements.merge(loaded_elements(part, context, at, score)); };
  match(
      expression.node,
      [&](const Load& load) {
        if (load.is_float) elements.insert({load.array, load_index(load, context, at, score)});
      },
      [&](const Unary& node) { add(*node.operand); },
      [&](const Binary& node) {
        add(*node.left);
        add(*node.right);
      },
      [&](const Select& node) {
        add(*node.condition);
        add(*node.if_true);
        add(*node.if_false);
      },
      [](const auto&) {});
  return elements;
}

}  // namespace harrier::oracle
