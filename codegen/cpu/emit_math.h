// Elementary functions on floats or vectors of floats, accurate to a few units in the last place, with no calls.
#pragma once

#include "codegen/cpu/kernel_builder.h"

namespace harrier {

inline constexpr double kLog2E = 1.4426950408889634;
inline constexpr double kLn2 = 0.6931471805599453;

/// 2^x for x <= 0 (softmax): exactly 0 below -126, also for minus infinity; NaN stays NaN.
llvm::Value* emit_exp2_nonpositive(KernelBuilder& builder, llvm::Value* x);

/// 2^x for any x: 0 below -126, infinity from 128.
llvm::Value* emit_exp2(KernelBuilder& builder, llvm::Value* x);

/// log2(x): minus infinity at 0, NaN below; exact at powers of two. Subnormal x counts as 0.
llvm::Value* emit_log2(KernelBuilder& builder, llvm::Value* x);

llvm::Value* emit_tanh(KernelBuilder& builder, llvm::Value* x);

}  // namespace harrier
