#include "codegen/cpu/emit_attention.h"

#include <llvm/IR/Module.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/TargetParser/Triple.h>

#include <array>
#include <cstddef>
#include <span>

#include "codegen/cpu/emit_backward.h"
#include "codegen/cpu/emit_ends.h"
#include "codegen/cpu/emit_tiles.h"
#include "codegen/cpu/row_emitter.h"
#include "codegen/cpu/transposed_rows.h"
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
  HARRIER_CHECK(source.shape.direction == Direction::kForward || source.shape.head_dim % plan.value_block == 0,
                "value_block must divide the head dim of a backward kernel");
}

ScratchLayout layout_of(const CpuKernelSource& source) {
  return scratch_layout(source.shape, source.plan, static_cast<int64_t>(source.slopes.in_loads.size()));
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
      .layout = layout_of(source),
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

BackwardRow load_backward_arguments(KernelBuilder& builder, llvm::Value* arguments) {
  using A = BackwardRowArguments;
  static_assert(offsetof(A, row) == 0, "a backward row's arguments start with those of the forward row");
  const auto pointer = [&](int64_t offset, const char* name) {
    return builder.field(arguments, offset, builder.pointer, name);
  };
  const auto stride = [&](int64_t offset, const char* name) {
    return builder.field(arguments, offset, builder.i64, name);
  };
  return {
      .d_outputs = {pointer(offsetof(A, d_out), "d_out"), stride(offsetof(A, d_out_stride), "d_out_stride")},
      .d_queries = {pointer(offsetof(A, d_q), "d_q"), stride(offsetof(A, d_q_stride), "d_q_stride")},
      .d_keys = {pointer(offsetof(A, d_k), "d_k"), stride(offsetof(A, d_k_stride), "d_k_stride")},
      .d_values = {pointer(offsetof(A, d_v), "d_v"), stride(offsetof(A, d_v_stride), "d_v_stride")},
      .d_arrays = pointer(offsetof(A, d_arrays), "d_arrays"),
      .await_turn = pointer(offsetof(A, await_turn), "await_turn"),
      .turn = pointer(offsetof(A, turn), "turn"),
  };
}

llvm::Function* declare_function(llvm::Module& module, const CpuTarget& target, const char* name,
                                 std::span<llvm::Type* const> parameters) {
  llvm::LLVMContext& context = module.getContext();
  const llvm::ArrayRef<llvm::Type*> types(parameters.data(), parameters.size());
  auto* type = llvm::FunctionType::get(llvm::Type::getVoidTy(context), types, false);
  auto* function = llvm::Function::Create(type, llvm::Function::ExternalLinkage, name, module);
  function->addFnAttr(llvm::Attribute::NoUnwind);
  function->addFnAttr("target-cpu", target.cpu);
  function->addFnAttr("target-features", target.features);
  // Some CPUs are tuned by default for narrower vectors than they have; ours are long enough to gain from all of it.
  const std::string vector_bits = std::to_string(target.vector_lanes * 32);
  function->addFnAttr("prefer-vector-width", vector_bits);
  function->addFnAttr("min-legal-vector-width", vector_bits);
  return function;
}

void emit_row_function(llvm::Module& module, const CpuKernelSource& source, const CpuTarget& target) {
  llvm::Type* pointer = llvm::PointerType::getUnqual(module.getContext());
  llvm::Function* function = declare_function(module, target, kCpuRowFunctionName, std::array{pointer});
  llvm::Value* arguments = function->getArg(0);
  arguments->setName("arguments");
  KernelBuilder builder(module, *function, source.plan.vector_lanes);
  RowEmitter emitter = load_arguments(builder, source, arguments);
  llvm::Value* runs = builder.field(arguments, offsetof(RowArguments, runs), builder.pointer, "runs");
  llvm::Value* run_count = builder.field(arguments, offsetof(RowArguments, run_count), builder.i64, "run_count");
  if (source.shape.direction == Direction::kForward) {
    emit_row_start(emitter);
    emit_runs(emitter, runs, run_count);
    emit_row_end(emitter);
  } else {
    BackwardRow backward = load_backward_arguments(builder, arguments);
    emit_backward_start(emitter, backward);
    emit_backward_runs(emitter, backward, runs, run_count);
    emit_backward_end(emitter, backward);
  }
  builder.ir.CreateRetVoid();
}

void emit_narrow_function(llvm::Module& module, const CpuKernelSource& source, const CpuTarget& target) {
  constexpr int kChunk = 8;
  llvm::LLVMContext& context = module.getContext();
  llvm::Type* pointer = llvm::PointerType::getUnqual(context);
  const std::array<llvm::Type*, 3> parameters{pointer, pointer, llvm::Type::getInt64Ty(context)};
  llvm::Function* function = declare_function(module, target, kCpuNarrowFunctionName, parameters);
  KernelBuilder builder(module, *function, source.plan.vector_lanes);
  const DataType dtype = source.shape.dtype;
  builder.loop(
      builder.int64(0), function->getArg(2), kChunk, {},
      [&](llvm::Value* index, std::span<llvm::Value* const>) {
        llvm::Value* from = builder.at(function->getArg(0), index, builder.f32);
        llvm::Value* to = builder.at(function->getArg(1), index, storage_type(builder, dtype));
        llvm::Value* floats = load_widened(builder, DataType::kFloat32, from, kChunk);
        builder.ir.CreateAlignedStore(narrowed(builder, dtype, floats), to,
                                      llvm::Align(static_cast<uint64_t>(bytes_of(dtype))));
        return Values{};
      },
      "narrow");
  builder.ir.CreateRetVoid();
}

}  // namespace

llvm::orc::ThreadSafeModule emit_attention(const CpuKernelSource& source, const CpuTarget& target) {
  check_plan(source);
  auto context = std::make_unique<llvm::LLVMContext>();
  auto module = std::make_unique<llvm::Module>("harrier_attention", *context);
  module->setTargetTriple(target.triple);
  emit_row_function(*module, source, target);
  if (source.shape.direction == Direction::kBackward) emit_narrow_function(*module, source, target);
  std::string complaint;
  llvm::raw_string_ostream stream(complaint);
  HARRIER_CHECK(!llvm::verifyModule(*module, &stream), "the emitted module is malformed: " + complaint);
  return {std::move(module), std::move(context)};
}

int64_t scratch_floats(const CpuKernelSource& source) { return layout_of(source).floats; }

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
