#include "codegen/cuda/emit_expression.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ir/error.h"
#include "ir/match.h"

namespace harrier {
namespace {

const char* text_of(VariableKind kind) {
  switch (kind) {
    case VariableKind::kBatch:
      return "Int(at.batch)";
    case VariableKind::kHead:
      return "Int(at.head)";
    case VariableKind::kQuery:
      return "q";
    case VariableKind::kKey:
      return "k";
    case VariableKind::kScore:
      return "s";
    case VariableKind::kQueryLength:
      return "Int(at.query_length)";
    case VariableKind::kKeyLength:
      return "Int(at.key_length)";
    case VariableKind::kQueryToken:
      return "(at.query_token + q)";
    case VariableKind::kKeyToken:
      break;
  }
  return "(at.key_token + k)";
}

const char* text_of(UnaryKind kind) {
  switch (kind) {
    case UnaryKind::kNegate:
      return "-";
    case UnaryKind::kNot:
      return "!";
    case UnaryKind::kAbs:
      return "absolute";
    case UnaryKind::kExp:
      return "exponential";
    case UnaryKind::kLog:
      return "logarithm";
    case UnaryKind::kSqrt:
      return "square_root";
    case UnaryKind::kTanh:
      break;
  }
  return "hyperbolic_tangent";
}

const char* text_of(BinaryKind kind) {
  switch (kind) {
    case BinaryKind::kAdd:
      return "+";
    case BinaryKind::kSubtract:
      return "-";
    case BinaryKind::kMultiply:
      return "*";
    case BinaryKind::kDivide:
      return "/";
    case BinaryKind::kModulo:
      return "%";
    case BinaryKind::kMin:
      return "minimum";
    case BinaryKind::kMax:
      return "maximum";
    case BinaryKind::kLess:
      return "<";
    case BinaryKind::kLessEqual:
      return "<=";
    case BinaryKind::kGreater:
      return ">";
    case BinaryKind::kGreaterEqual:
      return ">=";
    case BinaryKind::kEqual:
      return "==";
    case BinaryKind::kNotEqual:
      return "!=";
    case BinaryKind::kAnd:
      return "&&";
    case BinaryKind::kOr:
      return "||";
    case BinaryKind::kBitAnd:
      return "&";
    case BinaryKind::kBitOr:
      return "|";
    case BinaryKind::kBitXor:
      return "^";
    case BinaryKind::kShiftLeft:
      return "<<";
    case BinaryKind::kShiftRight:
      break;
  }
  return ">>";
}

std::string float_literal(double value) {
  const auto narrow = static_cast<float>(value);
  if (std::isnan(narrow)) return "__int_as_float(0x7fffffff)";
  if (std::isinf(narrow)) return narrow < 0 ? "__int_as_float(0xff800000)" : "__int_as_float(0x7f800000)";
  std::string text = fmt::format("{:.9g}", narrow);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return narrow < 0 ? "(" + text + "f)" : text + "f";
}

class Emitter {
 public:
  explicit Emitter(const std::vector<ArraySlot>& arrays) : arrays_(arrays) {}

  std::string plain(const Expression& expression) const {
    return match(
        expression.node, [](const IntLiteral& node) { return fmt::format("Int({})", static_cast<int>(node.value)); },
        [](const FloatLiteral& node) { return float_literal(node.value); },
        [](const Variable& node) { return std::string(text_of(node.kind)); },
        [&](const Load& node) { return load(node); }, [&](const Unary& node) { return unary(node); },
        [&](const Binary& node) { return binary(node); },
        [&](const Select& node) {
          const ExpressionType type = type_of(expression);
          return fmt::format("({} ? {} : {})", as(*node.condition, ExpressionType::kBool), as(*node.if_true, type),
                             as(*node.if_false, type));
        },
        [](const Parameter& node) {
          return node.is_float ? fmt::format("at.arguments.floats[{}]", node.index)
                               : fmt::format("Int(at.arguments.integers[{}])", node.index);
        },
        [](const TileCount&) { return std::string("Int(count)"); });
  }

  std::string place(const Load& node) const { return fmt::format("place_of(at, {})", slot_and_indices(node)); }

  std::string as(const Expression& expression, ExpressionType type) const {
    const ExpressionType own = type_of(expression);
    std::string text = plain(expression);
    if (own == type) return text;
    switch (type) {
      case ExpressionType::kBool:
        return fmt::format("({} != {})", text, own == ExpressionType::kFloat ? "0.0f" : "Int(0)");
      case ExpressionType::kInt:
        return fmt::format("Int({})", text);
      case ExpressionType::kFloat:
        break;
    }
    return fmt::format("to_float({})", text);
  }

 private:
  std::string load(const Load& node) const {
    const ArraySlot::Element type = arrays_[static_cast<size_t>(array_slot(arrays_, node.array))].element;
    const char* element = type == ArraySlot::Element::kInt32   ? "int32"
                          : type == ArraySlot::Element::kUInt8 ? "uint8"
                                                               : "float32";
    return fmt::format("load_{}(at, {})", element, slot_and_indices(node));
  }

  std::string slot_and_indices(const Load& node) const {
    std::string text = fmt::format("{}", array_slot(arrays_, node.array));
    for (const Expression& index : node.indices) text += ", " + as(index, ExpressionType::kInt);
    return text;
  }

  std::string unary(const Unary& node) const {
    const ExpressionType own = type_of(*node.operand);
    const char* text = text_of(node.kind);
    switch (node.kind) {
      case UnaryKind::kNot:
        return fmt::format("(!{})", as(*node.operand, ExpressionType::kBool));
      case UnaryKind::kNegate:
      case UnaryKind::kAbs: {
        const ExpressionType type = own == ExpressionType::kBool ? ExpressionType::kInt : own;
        const std::string operand = as(*node.operand, type);
        return node.kind == UnaryKind::kNegate ? fmt::format("(-{})", operand) : fmt::format("{}({})", text, operand);
      }
      default:
        return fmt::format("{}({})", text, as(*node.operand, ExpressionType::kFloat));
    }
  }

  std::string binary(const Binary& node) const {
    const bool logic = node.kind == BinaryKind::kAnd || node.kind == BinaryKind::kOr;
    const bool has_float =
        type_of(*node.left) == ExpressionType::kFloat || type_of(*node.right) == ExpressionType::kFloat;
    const ExpressionType type = logic       ? ExpressionType::kBool
                                : has_float ? ExpressionType::kFloat
                                            : ExpressionType::kInt;
    const std::string left = as(*node.left, type);
    const std::string right = as(*node.right, type);
    const char* text = text_of(node.kind);
    if (node.kind == BinaryKind::kMin || node.kind == BinaryKind::kMax) {
      return fmt::format("{}({}, {})", text, left, right);
    }
    return fmt::format("({} {} {})", left, text, right);
  }

  const std::vector<ArraySlot>& arrays_;
};

}  // namespace

std::string emit_cuda_expression(const Expression& expression, const std::vector<ArraySlot>& arrays) {
  return Emitter(arrays).plain(expression);
}

std::string emit_cuda_float(const Expression& expression, const std::vector<ArraySlot>& arrays) {
  return Emitter(arrays).as(expression, ExpressionType::kFloat);
}

int64_t array_slot(const std::vector<ArraySlot>& arrays, const std::string& name) {
  const auto slot = std::ranges::find(arrays, name, &ArraySlot::name);
  HARRIER_CHECK(slot != arrays.end(), "every loaded array has a slot");
  return slot - arrays.begin();
}

std::string emit_cuda_place(const Load& load, const std::vector<ArraySlot>& arrays) {
  return Emitter(arrays).place(load);
}

std::string emit_cuda_count(const Expression& expression, const std::vector<ArraySlot>& arrays) {
  return Emitter(arrays).as(expression, ExpressionType::kInt) + ".value";
}

}  // namespace harrier
