#include "codegen/cpu/emit_expression.h"

#include <llvm/IR/Intrinsics.h>

#include <cstddef>
#include <limits>

#include "codegen/cpu/emit_math.h"
#include "ir/error.h"
#include "ir/launch.h"
#include "ir/match.h"

namespace harrier {
namespace {

bool is_vector(llvm::Value* value) { return value->getType()->isVectorTy(); }

bool is_literal(const Expression& expression) {
  return std::holds_alternative<IntLiteral>(expression.node) || std::holds_alternative<FloatLiteral>(expression.node);
}

}  // namespace

bool varies_by_key(const Expression& expression) {
  const auto any = [](const std::vector<Expression>& expressions) {
    for (const Expression& each : expressions) {
      if (varies_by_key(each)) return true;
    }
    return false;
  };
  return match(
      expression.node, [](const IntLiteral&) { return false; }, [](const FloatLiteral&) { return false; },
      [](const Variable& variable) {
        return variable.kind == VariableKind::kKey || variable.kind == VariableKind::kKeyToken ||
               variable.kind == VariableKind::kScore;
      },
      [&](const Load& load) { return any(load.indices); },
      [](const Unary& unary) { return varies_by_key(*unary.operand); },
      [](const Binary& binary) { return varies_by_key(*binary.left) || varies_by_key(*binary.right); },
      [](const Select& select) {
        return varies_by_key(*select.condition) || varies_by_key(*select.if_true) || varies_by_key(*select.if_false);
      },
      [](const Parameter&) { return false; }, [](const TileCount&) { return true; });
}

int array_slot(const LoweredPattern& lowered, const std::string& name) {
  for (size_t i = 0; i < lowered.arrays.size(); ++i) {
    if (lowered.arrays[i].name == name) return static_cast<int>(i);
  }
  raise_internal_error(__FILE__, __LINE__, "no array slot is named '" + name + "'");
}

void ExpressionEmitter::hoist(const Expression& expression, const Values& query_vectors) {
  if (is_literal(expression)) return;
  if (!varies_by_key(expression)) {
    std::vector<TypedValue> values;
    for (size_t i = 0; i < query_vectors.size(); ++i) {
      values.push_back(emit_node(expression, PairValues{.query = query_vectors[i]}, static_cast<int>(i)));
    }
    hoisted_[&expression] = std::move(values);
    return;
  }
  const auto hoist_child = [&](const Expression& child) { hoist(child, query_vectors); };
  match(
      expression.node, [](const IntLiteral&) {}, [](const FloatLiteral&) {}, [](const Variable&) {},
      [&](const Load& load) {
        for (const Expression& index : load.indices) hoist_child(index);
      },
      [&](const Unary& unary) { hoist_child(*unary.operand); },
      [&](const Binary& binary) {
        hoist_child(*binary.left);
        hoist_child(*binary.right);
      },
      [&](const Select& select) {
        hoist_child(*select.condition);
        hoist_child(*select.if_true);
        hoist_child(*select.if_false);
      },
      [](const Parameter&) {}, [](const TileCount&) {});
}

TypedValue ExpressionEmitter::emit(const Expression& expression, const PairValues& pair, int vector_index) {
  const auto found = hoisted_.find(&expression);
  return found != hoisted_.end() ? found->second[vector_index] : emit_node(expression, pair, vector_index);
}

TypedValue ExpressionEmitter::emit_node(const Expression& expression, const PairValues& pair, int vector_index) {
  llvm::IRBuilder<>& ir = builder_.ir;
  return match(
      expression.node,
      [&](const IntLiteral& literal) {
        return TypedValue{builder_.int32(static_cast<int32_t>(literal.value)), ExpressionType::kInt};
      },
      [&](const FloatLiteral& literal) { return TypedValue{builder_.float32(literal.value), ExpressionType::kFloat}; },
      [&](const Variable& variable) { return emit_variable(variable.kind, pair); },
      [&](const Load& load) { return emit_load(load, pair, vector_index); },
      [&](const Unary& unary) { return emit_unary(unary, pair, vector_index); },
      [&](const Binary& binary) { return emit_binary(binary, pair, vector_index); },
      [&](const Select& select) { return emit_select(select, pair, vector_index); },
      [&](const Parameter& parameter) {
        llvm::Type* type = parameter.is_float ? builder_.f32 : builder_.i32;
        llvm::Value* base = parameter.is_float ? row_.float_parameters : row_.int_parameters;
        return TypedValue{ir.CreateLoad(type, builder_.at(base, builder_.int64(parameter.index), type)),
                          parameter.is_float ? ExpressionType::kFloat : ExpressionType::kInt};
      },
      [&](const TileCount& count) {
        llvm::Value* shifted = ir.CreateLShr(pair.table_counts, builder_.int32(int64_t{8} * count.slot));
        return TypedValue{ir.CreateAnd(shifted, builder_.int32(0xff)), ExpressionType::kInt};
      });
}

TypedValue ExpressionEmitter::emit_variable(VariableKind kind, const PairValues& pair) {
  llvm::IRBuilder<>& ir = builder_.ir;
  switch (kind) {
    case VariableKind::kBatch:
      return {row_.batch, ExpressionType::kInt};
    case VariableKind::kHead:
      return {row_.head, ExpressionType::kInt};
    case VariableKind::kQuery:
      return {pair.query, ExpressionType::kInt};
    case VariableKind::kKey:
      return {pair.key, ExpressionType::kInt};
    case VariableKind::kScore:
      return {pair.score, ExpressionType::kFloat};
    case VariableKind::kQueryLength:
      return {row_.query_length, ExpressionType::kInt};
    case VariableKind::kKeyLength:
      return {row_.key_length, ExpressionType::kInt};
    case VariableKind::kQueryToken:
      return {ir.CreateAdd(pair.query, builder_.splat(row_.query_token)), ExpressionType::kInt};
    case VariableKind::kKeyToken:
      return {ir.CreateAdd(pair.key, row_.key_token), ExpressionType::kInt};
  }
  raise_internal_error(__FILE__, __LINE__, "a variable of unknown kind");
}

llvm::Value* ExpressionEmitter::bound_array(const Load& load) {
  const auto slot = static_cast<uint64_t>(array_slot(lowered_, load.array));
  return builder_.ir.CreateConstInBoundsGEP1_64(builder_.ir.getInt8Ty(), row_.arrays, slot * sizeof(BoundArray));
}

ExpressionEmitter::ElementOffset ExpressionEmitter::split_offset(const Load& load, const PairValues& pair,
                                                                 int vector_index) {
  llvm::IRBuilder<>& ir = builder_.ir;
  HARRIER_CHECK(load.indices.size() <= 4, "a load has at most four indices");
  llvm::Value* bound = bound_array(load);

  // Offsets are 64-bit: an array may have more than 2^31 elements although each index is an int32.
  auto* i64_vector = llvm::FixedVectorType::get(builder_.i64, static_cast<unsigned>(builder_.lanes));
  ElementOffset offset{.uniform = builder_.int64(0), .varying = nullptr};
  for (size_t i = 0; i < load.indices.size(); ++i) {
    llvm::Value* index = as_int(emit(load.indices[i], pair, vector_index));
    llvm::Value* stride = builder_.field(
        bound, offsetof(BoundArray, strides) + static_cast<int64_t>(i * sizeof(int64_t)), builder_.i64, "stride");
    if (is_vector(index)) {
      llvm::Value* term = ir.CreateMul(ir.CreateSExt(index, i64_vector), builder_.splat(stride));
      offset.varying = offset.varying == nullptr ? term : ir.CreateAdd(offset.varying, term);
    } else {
      offset.uniform = ir.CreateAdd(offset.uniform, ir.CreateMul(ir.CreateSExt(index, builder_.i64), stride));
    }
  }
  return offset;
}

llvm::Value* ExpressionEmitter::element_offset(const Load& load, const PairValues& pair, int vector_index) {
  const ElementOffset offset = split_offset(load, pair, vector_index);
  if (offset.varying == nullptr) return offset.uniform;
  return builder_.ir.CreateAdd(builder_.splat(offset.uniform), offset.varying);
}

TypedValue ExpressionEmitter::emit_load(const Load& load, const PairValues& pair, int vector_index) {
  llvm::IRBuilder<>& ir = builder_.ir;
  const ArraySlot& array = lowered_.arrays[array_slot(lowered_, load.array)];
  llvm::Value* base = builder_.field(bound_array(load), offsetof(BoundArray, data), builder_.pointer, "data");
  const auto [uniform_offset, varying_offset] = split_offset(load, pair, vector_index);

  llvm::Type* element = array.element == ArraySlot::Element::kFloat32 ? builder_.f32
                        : array.element == ArraySlot::Element::kInt32 ? builder_.i32
                                                                      : static_cast<llvm::Type*>(ir.getInt8Ty());
  llvm::Value* address = builder_.at(base, uniform_offset, element);
  llvm::Value* value;
  if (varying_offset == nullptr) {
    value = ir.CreateLoad(element, address);
  } else {
    auto* vector_type = llvm::FixedVectorType::get(element, static_cast<unsigned>(builder_.lanes));
    llvm::Value* addresses = ir.CreateInBoundsGEP(element, address, varying_offset);
    value = ir.CreateMaskedGather(vector_type, addresses, llvm::Align(element == ir.getInt8Ty() ? 1 : 4));
  }
  if (array.element == ArraySlot::Element::kFloat32) return {value, ExpressionType::kFloat};
  if (array.element == ArraySlot::Element::kUInt8) {
    value = ir.CreateZExt(value, is_vector(value) ? static_cast<llvm::Type*>(builder_.i32_vector) : builder_.i32);
  }
  return {value, ExpressionType::kInt};
}

TypedValue ExpressionEmitter::emit_unary(const Unary& unary, const PairValues& pair, int vector_index) {
  llvm::IRBuilder<>& ir = builder_.ir;
  const TypedValue operand = emit(*unary.operand, pair, vector_index);
  switch (unary.kind) {
    case UnaryKind::kNot:
      return {ir.CreateNot(as_bool(operand)), ExpressionType::kBool};
    case UnaryKind::kNegate:
      if (operand.type == ExpressionType::kFloat) return {ir.CreateFNeg(operand.value), ExpressionType::kFloat};
      return {ir.CreateNeg(as_int(operand)), ExpressionType::kInt};
    case UnaryKind::kAbs:
      if (operand.type == ExpressionType::kFloat) {
        return {ir.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, operand.value), ExpressionType::kFloat};
      }
      return {ir.CreateBinaryIntrinsic(llvm::Intrinsic::abs, as_int(operand), ir.getFalse()), ExpressionType::kInt};
    case UnaryKind::kExp: {
      llvm::Value* x = as_float(operand);
      llvm::Value* scaled = ir.CreateFMul(x, llvm::ConstantFP::get(x->getType(), kLog2E));
      return {emit_exp2(builder_, scaled), ExpressionType::kFloat};
    }
    case UnaryKind::kLog: {
      llvm::Value* log2 = emit_log2(builder_, as_float(operand));
      return {ir.CreateFMul(log2, llvm::ConstantFP::get(log2->getType(), kLn2)), ExpressionType::kFloat};
    }
    case UnaryKind::kSqrt:
      return {ir.CreateUnaryIntrinsic(llvm::Intrinsic::sqrt, as_float(operand)), ExpressionType::kFloat};
    case UnaryKind::kTanh:
      return {emit_tanh(builder_, as_float(operand)), ExpressionType::kFloat};
  }
  raise_internal_error(__FILE__, __LINE__, "a unary operator of unknown kind");
}

TypedValue ExpressionEmitter::emit_binary(const Binary& binary, const PairValues& pair, int vector_index) {
  llvm::IRBuilder<>& ir = builder_.ir;
  const TypedValue left_operand = emit(*binary.left, pair, vector_index);
  const TypedValue right_operand = emit(*binary.right, pair, vector_index);
  if (binary.kind == BinaryKind::kAnd || binary.kind == BinaryKind::kOr) {
    llvm::Value* left = as_bool(left_operand);
    llvm::Value* right = as_bool(right_operand);
    unify(left, right);
    return {binary.kind == BinaryKind::kAnd ? ir.CreateAnd(left, right) : ir.CreateOr(left, right),
            ExpressionType::kBool};
  }
  const bool is_float = left_operand.type == ExpressionType::kFloat || right_operand.type == ExpressionType::kFloat;
  llvm::Value* left = is_float ? as_float(left_operand) : as_int(left_operand);
  llvm::Value* right = is_float ? as_float(right_operand) : as_int(right_operand);
  unify(left, right);
  const auto number = [&](llvm::Value* value) {
    return TypedValue{value, is_float ? ExpressionType::kFloat : ExpressionType::kInt};
  };
  const auto compare = [&](llvm::CmpInst::Predicate of_floats, llvm::CmpInst::Predicate of_ints) {
    return TypedValue{is_float ? ir.CreateFCmp(of_floats, left, right) : ir.CreateICmp(of_ints, left, right),
                      ExpressionType::kBool};
  };
  const auto smaller_or_larger = [&](llvm::CmpInst::Predicate of_floats, llvm::Intrinsic::ID of_ints) {
    return number(is_float ? ir.CreateSelect(ir.CreateFCmp(of_floats, left, right), left, right)
                           : ir.CreateBinaryIntrinsic(of_ints, left, right));
  };
  const auto shift_count = [&] { return ir.CreateAnd(right, llvm::ConstantInt::get(right->getType(), 31)); };
  using Predicate = llvm::CmpInst;
  switch (binary.kind) {
    case BinaryKind::kAdd:
      return number(is_float ? ir.CreateFAdd(left, right) : ir.CreateAdd(left, right));
    case BinaryKind::kSubtract:
      return number(is_float ? ir.CreateFSub(left, right) : ir.CreateSub(left, right));
    case BinaryKind::kMultiply:
      return number(is_float ? ir.CreateFMul(left, right) : ir.CreateMul(left, right));
    case BinaryKind::kDivide:
      return number(is_float ? ir.CreateFDiv(left, right) : emit_division(left, right, *binary.right, false));
    case BinaryKind::kModulo:
      HARRIER_CHECK(!is_float, "the verifier admits % on integers only");
      return number(emit_division(left, right, *binary.right, true));
    case BinaryKind::kMin:
      return smaller_or_larger(Predicate::FCMP_OLT, llvm::Intrinsic::smin);
    case BinaryKind::kMax:
      return smaller_or_larger(Predicate::FCMP_OGT, llvm::Intrinsic::smax);
    case BinaryKind::kLess:
      return compare(Predicate::FCMP_OLT, Predicate::ICMP_SLT);
    case BinaryKind::kLessEqual:
      return compare(Predicate::FCMP_OLE, Predicate::ICMP_SLE);
    case BinaryKind::kGreater:
      return compare(Predicate::FCMP_OGT, Predicate::ICMP_SGT);
    case BinaryKind::kGreaterEqual:
      return compare(Predicate::FCMP_OGE, Predicate::ICMP_SGE);
    case BinaryKind::kEqual:
      return compare(Predicate::FCMP_OEQ, Predicate::ICMP_EQ);
    case BinaryKind::kNotEqual:
      return compare(Predicate::FCMP_UNE, Predicate::ICMP_NE);
    case BinaryKind::kBitAnd:
      return number(ir.CreateAnd(left, right));
    case BinaryKind::kBitOr:
      return number(ir.CreateOr(left, right));
    case BinaryKind::kBitXor:
      return number(ir.CreateXor(left, right));
    case BinaryKind::kShiftLeft:
      return number(ir.CreateShl(left, shift_count()));
    case BinaryKind::kShiftRight:
      return number(ir.CreateAShr(left, shift_count()));
    case BinaryKind::kAnd:
    case BinaryKind::kOr:
      break;
  }
  raise_internal_error(__FILE__, __LINE__, "a binary operator of unknown kind");
}

TypedValue ExpressionEmitter::emit_select(const Select& select, const PairValues& pair, int vector_index) {
  llvm::Value* condition = as_bool(emit(*select.condition, pair, vector_index));
  const TypedValue if_true = emit(*select.if_true, pair, vector_index);
  const TypedValue if_false = emit(*select.if_false, pair, vector_index);
  const bool is_float = if_true.type == ExpressionType::kFloat || if_false.type == ExpressionType::kFloat;
  const bool is_bool = if_true.type == ExpressionType::kBool && if_false.type == ExpressionType::kBool;
  llvm::Value* left = is_float ? as_float(if_true) : is_bool ? if_true.value : as_int(if_true);
  llvm::Value* right = is_float ? as_float(if_false) : is_bool ? if_false.value : as_int(if_false);
  unify(left, right);
  if (is_vector(condition)) {
    left = builder_.splat(left);
    right = builder_.splat(right);
  }
  return {builder_.ir.CreateSelect(condition, left, right), is_float  ? ExpressionType::kFloat
                                                            : is_bool ? ExpressionType::kBool
                                                                      : ExpressionType::kInt};
}

llvm::Value* ExpressionEmitter::emit_division(llvm::Value* left, llvm::Value* right, const Expression& divisor,
                                              bool modulo) {
  llvm::IRBuilder<>& ir = builder_.ir;
  if (const auto* literal = std::get_if<IntLiteral>(&divisor.node)) {
    const int64_t value = literal->value;
    if (value > 0 && value <= (int64_t{1} << 30) && (value & (value - 1)) == 0) {
      // Shifts and masks of two's complement round towards minus infinity by themselves.
      if (modulo) return ir.CreateAnd(left, llvm::ConstantInt::get(left->getType(), static_cast<uint64_t>(value - 1)));
      return ir.CreateAShr(left, llvm::ConstantInt::get(left->getType(), llvm::Log2_64(static_cast<uint64_t>(value))));
    }
  }
  // Through doubles: exact for int32 operands (a quotient that is no integer is further than 2^-31 from one),
  // vectorises, and never traps.
  llvm::Value* zero = llvm::Constant::getNullValue(right->getType());
  llvm::Value* one = llvm::ConstantInt::get(right->getType(), 1);
  llvm::Value* by_zero = ir.CreateICmpEQ(right, zero);
  llvm::Value* safe = ir.CreateSelect(by_zero, one, right);
  const auto same_shape = [&](llvm::Type* scalar) -> llvm::Type* {
    if (!is_vector(left)) return scalar;
    return llvm::FixedVectorType::get(scalar, static_cast<unsigned>(builder_.lanes));
  };
  llvm::Type* doubles = same_shape(ir.getDoubleTy());
  llvm::Value* ratio = ir.CreateFDiv(ir.CreateSIToFP(left, doubles), ir.CreateSIToFP(safe, doubles));
  llvm::Value* rounded = ir.CreateUnaryIntrinsic(llvm::Intrinsic::floor, ratio);
  // The one quotient that leaves int32 is -2^31 / -1, which wraps to -2^31; freeze, since converting it is poison.
  llvm::Value* smallest = llvm::ConstantInt::getSigned(left->getType(), std::numeric_limits<int32_t>::min());
  llvm::Value* wraps = ir.CreateAnd(ir.CreateICmpEQ(left, smallest),
                                    ir.CreateICmpEQ(safe, llvm::ConstantInt::getSigned(left->getType(), -1)));
  llvm::Value* quotient = ir.CreateSelect(wraps, smallest, ir.CreateFreeze(ir.CreateFPToSI(rounded, left->getType())));
  llvm::Value* result = modulo ? ir.CreateSub(left, ir.CreateMul(quotient, safe)) : quotient;
  return ir.CreateSelect(by_zero, zero, result);
}

void ExpressionEmitter::unify(llvm::Value*& left, llvm::Value*& right) {
  if (is_vector(left) || is_vector(right)) {
    left = builder_.splat(left);
    right = builder_.splat(right);
  }
}

llvm::Value* ExpressionEmitter::as_float(const TypedValue& value) {
  if (value.type == ExpressionType::kFloat) return value.value;
  llvm::Type* type = is_vector(value.value) ? static_cast<llvm::Type*>(builder_.f32_vector) : builder_.f32;
  return value.type == ExpressionType::kBool ? builder_.ir.CreateUIToFP(value.value, type)
                                             : builder_.ir.CreateSIToFP(value.value, type);
}

llvm::Value* ExpressionEmitter::as_int(const TypedValue& value) {
  HARRIER_CHECK(value.type != ExpressionType::kFloat, "a float where the language wants an integer");
  if (value.type == ExpressionType::kInt) return value.value;
  llvm::Type* type = is_vector(value.value) ? static_cast<llvm::Type*>(builder_.i32_vector) : builder_.i32;
  return builder_.ir.CreateZExt(value.value, type);
}

llvm::Value* ExpressionEmitter::as_bool(const TypedValue& value) {
  if (value.type == ExpressionType::kBool) return value.value;
  llvm::Value* zero = llvm::Constant::getNullValue(value.value->getType());
  return value.type == ExpressionType::kInt ? builder_.ir.CreateICmpNE(value.value, zero)
                                            : builder_.ir.CreateFCmpUNE(value.value, zero);
}

}  // namespace harrier
