// LLVM's IRBuilder with the few shapes that our kernels are made of: vectors of queries, counted loops, typed fields of
// the arguments.
#pragma once

#include <llvm/IR/DerivedTypes.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Module.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace harrier {

using Values = std::vector<llvm::Value*>;

struct KernelBuilder {
  KernelBuilder(llvm::Module& module, llvm::Function& function, int lanes);

  llvm::Module& module;
  llvm::Function& function;
  llvm::IRBuilder<> ir;
  int lanes;
  llvm::Type* f32;
  llvm::Type* i1;
  llvm::Type* i32;
  llvm::Type* i64;
  llvm::PointerType* pointer;
  llvm::FixedVectorType* f32_vector;
  llvm::FixedVectorType* i32_vector;

  llvm::Value* int32(int64_t value) { return llvm::ConstantInt::getSigned(i32, value); }
  llvm::Value* int64(int64_t value) { return llvm::ConstantInt::getSigned(i64, value); }
  llvm::Value* float32(double value) { return llvm::ConstantFP::get(f32, value); }
  llvm::Value* splat_float(double value) { return llvm::ConstantFP::get(f32_vector, value); }
  llvm::Value* minus_infinity();  // a vector of them

  /// A scalar in every lane; vectors pass through.
  llvm::Value* splat(llvm::Value* value);

  /// The field at `byte_offset` of the struct at `base`.
  llvm::Value* field(llvm::Value* base, int64_t byte_offset, llvm::Type* type, const char* name);

  /// Address of element `index` (i64) of an array of `element` at `base`.
  llvm::Value* at(llvm::Value* base, llvm::Value* index, llvm::Type* element);

  /// `lanes` floats at float `index` of `base`, and back.
  llvm::Value* load_floats(llvm::Value* base, llvm::Value* index);
  void store_floats(llvm::Value* value, llvm::Value* base, llvm::Value* index);

  llvm::Value* multiply_add(llvm::Value* a, llvm::Value* b, llvm::Value* c);
  /// The larger one; `b` where either is NaN (one instruction on x86, unlike maxnum).
  llvm::Value* larger(llvm::Value* a, llvm::Value* b);
  llvm::Value* smaller_int(llvm::Value* a, llvm::Value* b);

  /// for (i = begin; i < end; i += step) carried = body(i, carried). i64 counters. Gives the carried values after the
  /// loop.
  Values loop(llvm::Value* begin, llvm::Value* end, int64_t step, const Values& carried,
              const std::function<Values(llvm::Value* index, std::span<llvm::Value* const> carried)>& body,
              const char* name);

  /// if (condition) { body }
  void if_then(llvm::Value* condition, const std::function<void()>& body, const char* name);

  /// condition ? if_true() : if_false(), for any number of values.
  Values if_else(llvm::Value* condition, const std::function<Values()>& if_true,
                 const std::function<Values()>& if_false, const char* name);
};

/// Transposes a block of lanes x lanes floats: load_row(i) gives row i, store_row(j, vector) takes column j. `buffer`
/// holds lanes x lanes floats. Small loops over a buffer rather than one large shuffle network, which LLVM takes longer
/// to compile than the rest of a kernel.
void emit_transpose(KernelBuilder& builder, llvm::Value* buffer,
                    const std::function<llvm::Value*(llvm::Value* row)>& load_row,
                    const std::function<void(llvm::Value* column, llvm::Value* vector)>& store_row);

}  // namespace harrier
