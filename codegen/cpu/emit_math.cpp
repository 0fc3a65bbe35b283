#include "codegen/cpu/emit_math.h"

#include <llvm/IR/Intrinsics.h>

#include <limits>
#include <span>

namespace harrier {
namespace {

llvm::Value* like(llvm::Value* x, double value) { return llvm::ConstantFP::get(x->getType(), value); }

llvm::Type* int_type_like(KernelBuilder& builder, llvm::Value* x) {
  return x->getType()->isVectorTy() ? static_cast<llvm::Type*>(builder.i32_vector) : builder.i32;
}

/// c[0] + c[1] x + c[2] x^2 + ... by Horner's rule.
llvm::Value* polynomial(KernelBuilder& builder, llvm::Value* x, std::span<const double> coefficients) {
  llvm::Value* sum = like(x, coefficients.back());
  for (size_t i = coefficients.size() - 1; i-- > 0;) sum = builder.multiply_add(sum, x, like(x, coefficients[i]));
  return sum;
}

/// 2^x for x inside the normal range; outside the result has no meaning but is no trap.
llvm::Value* exp2_in_range(KernelBuilder& builder, llvm::Value* x) {
  // 2^f on [-1/2, 1/2], relative error 9.2e-8, exact at 0 so that the largest score has weight 1.
  static constexpr double kCoefficients[] = {
      1.0, 0.6931469775918877, 0.2402224208044738, 0.05550733753724964, 0.00967151286568952, 0.0013264724044707767};
  llvm::IRBuilder<>& ir = builder.ir;
  llvm::Value* whole = ir.CreateUnaryIntrinsic(llvm::Intrinsic::roundeven, x);
  llvm::Value* fraction = ir.CreateFSub(x, whole);
  llvm::Value* power = polynomial(builder, fraction, kCoefficients);
  llvm::Type* int_type = int_type_like(builder, x);
  // Freeze: out of range the conversion is poison, and a select by the caller drops it.
  llvm::Value* exponent = ir.CreateFreeze(ir.CreateFPToSI(whole, int_type));
  llvm::Value* shifted = ir.CreateShl(exponent, llvm::ConstantInt::get(int_type, 23));
  return ir.CreateBitCast(ir.CreateAdd(ir.CreateBitCast(power, int_type), shifted), x->getType());
}

}  // namespace

llvm::Value* emit_exp2_nonpositive(KernelBuilder& builder, llvm::Value* x) {
  llvm::Value* power = exp2_in_range(builder, x);
  return builder.ir.CreateSelect(builder.ir.CreateFCmpOLT(x, like(x, -126.0)), like(x, 0.0), power);
}

llvm::Value* emit_exp2(KernelBuilder& builder, llvm::Value* x) {
  llvm::Value* too_large = builder.ir.CreateFCmpOGE(x, like(x, 128.0));
  // Up to 128 the rounded exponent may be 128, one past the largest: halve the argument's whole part there.
  llvm::Value* near_limit = builder.ir.CreateFCmpOGE(x, like(x, 127.0));
  llvm::Value* reduced = builder.ir.CreateSelect(near_limit, builder.ir.CreateFSub(x, like(x, 1.0)), x);
  llvm::Value* power = emit_exp2_nonpositive(builder, reduced);
  llvm::Value* scaled = builder.ir.CreateSelect(near_limit, builder.ir.CreateFMul(power, like(x, 2.0)), power);
  return builder.ir.CreateSelect(too_large, like(x, std::numeric_limits<double>::infinity()), scaled);
}

llvm::Value* emit_log2(KernelBuilder& builder, llvm::Value* x) {
  // log2(1 + t) / t on [sqrt(1/2) - 1, sqrt(2) - 1], relative error 2.6e-8 (Remez).
  static constexpr double kCoefficients[] = {1.442695003652444,    -0.7213473468016113,  0.480910642940026,
                                             -0.36070368294111094, 0.28791624835751456,  -0.23894481879109125,
                                             0.21571560105037235,  -0.20726976157710014, 0.12583705133292725};
  constexpr int32_t kSqrtHalfBits = 0x3f3504f3;
  constexpr int32_t kMantissaMask = 0x007fffff;
  llvm::IRBuilder<>& ir = builder.ir;
  llvm::Type* int_type = int_type_like(builder, x);
  const auto whole_number = [&](int64_t value) { return llvm::ConstantInt::getSigned(int_type, value); };
  // Exponent so that the mantissa lies in [sqrt(1/2), sqrt(2)).
  llvm::Value* bits = ir.CreateBitCast(x, int_type);
  llvm::Value* above = ir.CreateSub(bits, whole_number(kSqrtHalfBits));
  llvm::Value* exponent = ir.CreateAShr(above, whole_number(23));
  llvm::Value* mantissa_bits =
      ir.CreateAdd(ir.CreateAnd(above, whole_number(kMantissaMask)), whole_number(kSqrtHalfBits));
  llvm::Value* t = ir.CreateFSub(ir.CreateBitCast(mantissa_bits, x->getType()), like(x, 1.0));
  llvm::Value* fraction = ir.CreateFMul(t, polynomial(builder, t, kCoefficients));
  llvm::Value* result = ir.CreateFAdd(ir.CreateSIToFP(exponent, x->getType()), fraction);

  const double infinity = std::numeric_limits<double>::infinity();
  constexpr double kSmallestNormal = 1.1754943508222875e-38;
  result = ir.CreateSelect(ir.CreateFCmpOLT(x, like(x, kSmallestNormal)), like(x, -infinity), result);
  result = ir.CreateSelect(ir.CreateFCmpOEQ(x, like(x, infinity)), like(x, infinity), result);
  llvm::Value* not_a_number = like(x, std::numeric_limits<double>::quiet_NaN());
  return ir.CreateSelect(ir.CreateFCmpUGE(x, like(x, 0.0)), ir.CreateSelect(ir.CreateFCmpUNO(x, x), x, result),
                         not_a_number);
}

llvm::Value* emit_tanh(KernelBuilder& builder, llvm::Value* x) {
  // tanh(x) / x as a polynomial in x^2 for |x| <= 0.625, relative error 3.9e-9 (Remez); 1 - 2 / (exp(2 |x|) + 1)
  // beyond.
  static constexpr double kCoefficients[] = {0.9999999960752911,    -0.3333326052694037, 0.13331127536310355,
                                             -0.053721068011384494, 0.02059098829996369, -0.005659988979879748};
  llvm::IRBuilder<>& ir = builder.ir;
  llvm::Value* small = ir.CreateFMul(x, polynomial(builder, ir.CreateFMul(x, x), kCoefficients));
  llvm::Value* magnitude = ir.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x);
  llvm::Value* exponential = emit_exp2(builder, ir.CreateFMul(magnitude, like(x, 2.0 * kLog2E)));
  llvm::Value* large =
      ir.CreateFSub(like(x, 1.0), ir.CreateFDiv(like(x, 2.0), ir.CreateFAdd(exponential, like(x, 1.0))));
  large = ir.CreateBinaryIntrinsic(llvm::Intrinsic::copysign, large, x);
  return ir.CreateSelect(ir.CreateFCmpULE(magnitude, like(x, 0.625)), small, large);
}

}  // namespace harrier
