#include "codegen/cpu/emit_attention.h"

#include <llvm/IR/Module.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/TargetParser/Triple.h>

#include <cstddef>

#include "codegen/cpu/emit_ends.h"
#include "codegen/cpu/emit_tiles.h"
#include "codegen/cpu/row_emitter.h"
#include "ir/error.h"
#include "ir/launch.h"

namespace harrier {
namespace {

void check_plan(const CpuKernelSource& source) {
  const CpuPlan& plan = source.plan;
  const int64_t vectors = (plan.tile_q + plan.vector_lanes - 1) / plan.vector_lanes;
  HARRIER_CHECK(plan.tile_q >= 1 && plan.tile_k >= 1, "tiles must hold at least one query and one key");
  HARRIER_CHECK(plan.vector_lanes >= 4 && plan.vector_lanes <= 16, "vectors have 4, 8 or 16 lanes");
  HARRIER_CHECK(plan.q_vectors >= 1 && vectors % plan.q_vectors == 0, "q_vectors must divide the row's vectors");
  HARRIER_CHECK(plan.key_block >= 1, "a register block holds at least one key");
  HARRIER_CHECK(plan.value_block >= 1 && source.shape.value_dim % plan.value_block == 0,
                "value_block must divide the value head dim");
}

RowEmitter load_arguments(KernelBuilder& builder, const CpuKernelSource& source, llvm::Value* arguments) {
  const auto load = [&](int64_t offset, llvm::Type* type, const char* name) {
    return builder.field(arguments, offset, type, name);
  };
  const auto token = [&](int64_t offset, const char* name) {
    return builder.ir.CreateTrunc(load(offset, builder.i64, name), builder.i32);
  };
  llvm::Type* pointer = builder.pointer;
  llvm::Type* i64 = builder.i64;
  llvm::Type* i32 = builder.i32;
  using A = RowArguments;
  const RowValues row{
      .batch = load(offsetof(A, batch), i32, "batch"),
      .head = load(offsetof(A, head), i32, "head"),
      .query_length = load(offsetof(A, query_length), i32, "query_length"),
      .key_length = load(offsetof(A, key_length), i32, "key_length"),
      .query_token = token(offsetof(A, query_token), "query_token"),
      .key_token = token(offsetof(A, key_token), "key_token"),
      .arrays = load(offsetof(A, arrays), pointer, "arrays"),
      .int_parameters = load(offsetof(A, int_parameters), pointer, "int_parameters"),
      .float_parameters = load(offsetof(A, float_parameters), pointer, "float_parameters"),
  };
  return RowEmitter{
      .builder = builder,
      .source = source,
      .layout = scratch_layout(source.shape, source.plan),
      .row = row,
      .scratch = load(offsetof(A, scratch), pointer, "scratch"),
      .queries = {load(offsetof(A, q), pointer, "q"), load(offsetof(A, q_stride), i64, "q_stride")},
      .keys = {load(offsetof(A, k), pointer, "k"), load(offsetof(A, k_stride), i64, "k_stride")},
      .values = {load(offsetof(A, v), pointer, "v"), load(offsetof(A, v_stride), i64, "v_stride")},
      .outputs = {load(offsetof(A, out), pointer, "out"), load(offsetof(A, out_stride), i64, "out_stride")},
      .lse = {load(offsetof(A, lse), pointer, "lse"), load(offsetof(A, lse_stride), i64, "lse_stride")},
      .query_begin = load(offsetof(A, query_begin), i32, "query_begin"),
      .query_count = load(offsetof(A, query_count), i32, "query_count"),
  };
}

llvm::Function* declare_row_function(llvm::Module& module, const CpuTarget& target) {
  llvm::LLVMContext& context = module.getContext();
  llvm::Type* pointer = llvm::PointerType::getUnqual(context);
  auto* type = llvm::FunctionType::get(llvm::Type::getVoidTy(context), {pointer}, false);
  auto* function = llvm::Function::Create(type, llvm::Function::ExternalLinkage, kCpuRowFunctionName, module);
  function->addFnAttr(llvm::Attribute::NoUnwind);
  function->addFnAttr("target-cpu", target.cpu);
  function->addFnAttr("target-features", target.features);
  // Some CPUs are tuned by default for narrower vectors than they have; ours are long enough to gain from all of it.
  const std::string vector_bits = std::to_string(target.vector_lanes * 32);
  function->addFnAttr("prefer-vector-width", vector_bits);
  function->addFnAttr("min-legal-vector-width", vector_bits);
  function->getArg(0)->setName("arguments");
  return function;
}

}  // namespace

llvm::orc::ThreadSafeModule emit_attention(const CpuKernelSource& source, const CpuTarget& target) {
  check_plan(source);
  auto context = std::make_unique<llvm::LLVMContext>();
  auto module = std::make_unique<llvm::Module>("harrier_attention", *context);
  module->setTargetTriple(target.triple);
  llvm::Function* function = declare_row_function(*module, target);
  {
    KernelBuilder builder(*module, *function, source.plan.vector_lanes);
    RowEmitter emitter = load_arguments(builder, source, function->getArg(0));
    llvm::Value* runs = builder.field(function->getArg(0), offsetof(RowArguments, runs), builder.pointer, "runs");
    llvm::Value* run_count =
        builder.field(function->getArg(0), offsetof(RowArguments, run_count), builder.i64, "run_count");
    emit_row_start(emitter);
    emit_runs(emitter, runs, run_count);
    emit_row_end(emitter);
    builder.ir.CreateRetVoid();
  }
  std::string complaint;
  llvm::raw_string_ostream stream(complaint);
  HARRIER_CHECK(!llvm::verifyModule(*module, &stream), "the emitted module is malformed: " + complaint);
  return {std::move(module), std::move(context)};
}

std::string emit_attention_text(const CpuKernelSource& source, const CpuTarget& target) {
  llvm::orc::ThreadSafeModule emitted = emit_attention(source, target);
  std::string text;
  emitted.withModuleDo([&](llvm::Module& module) {
    llvm::raw_string_ostream stream(text);
    module.print(stream, nullptr);
  });
  return text;
}

}  // namespace harrier
