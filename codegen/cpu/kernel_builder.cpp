#include "codegen/cpu/kernel_builder.h"

#include <llvm/IR/Intrinsics.h>

#include <limits>

#include "ir/error.h"

namespace harrier {

KernelBuilder::KernelBuilder(llvm::Module& the_module, llvm::Function& the_function, int the_lanes)
    : module(the_module),
      function(the_function),
      ir(llvm::BasicBlock::Create(the_module.getContext(), "entry", &the_function)),
      lanes(the_lanes),
      f32(ir.getFloatTy()),
      i1(ir.getInt1Ty()),
      i32(ir.getInt32Ty()),
      i64(ir.getInt64Ty()),
      pointer(ir.getPtrTy()),
      f32_vector(llvm::FixedVectorType::get(f32, static_cast<unsigned>(the_lanes))),
      i32_vector(llvm::FixedVectorType::get(i32, static_cast<unsigned>(the_lanes))) {}

llvm::Value* KernelBuilder::minus_infinity() { return splat_float(-std::numeric_limits<double>::infinity()); }

llvm::Value* KernelBuilder::splat(llvm::Value* value) {
  return value->getType()->isVectorTy() ? value : ir.CreateVectorSplat(static_cast<unsigned>(lanes), value);
}

llvm::Value* KernelBuilder::field(llvm::Value* base, int64_t byte_offset, llvm::Type* type, const char* name) {
  return ir.CreateLoad(type, ir.CreateConstInBoundsGEP1_64(ir.getInt8Ty(), base, static_cast<uint64_t>(byte_offset)),
                       name);
}

llvm::Value* KernelBuilder::at(llvm::Value* base, llvm::Value* index, llvm::Type* element) {
  return ir.CreateInBoundsGEP(element, base, index);
}

llvm::Value* KernelBuilder::load_floats(llvm::Value* base, llvm::Value* index) {
  return ir.CreateAlignedLoad(f32_vector, at(base, index, f32), llvm::Align(4));
}

void KernelBuilder::store_floats(llvm::Value* value, llvm::Value* base, llvm::Value* index) {
  ir.CreateAlignedStore(value, at(base, index, f32), llvm::Align(4));
}

llvm::Value* KernelBuilder::multiply_add(llvm::Value* a, llvm::Value* b, llvm::Value* c) {
  return ir.CreateIntrinsic(llvm::Intrinsic::fma, {a->getType()}, {a, b, c});
}

llvm::Value* KernelBuilder::larger(llvm::Value* a, llvm::Value* b) {
  return ir.CreateSelect(ir.CreateFCmpOGT(a, b), a, b);
}

llvm::Value* KernelBuilder::smaller_int(llvm::Value* a, llvm::Value* b) {
  return ir.CreateBinaryIntrinsic(llvm::Intrinsic::smin, a, b);
}

Values KernelBuilder::loop(llvm::Value* begin, llvm::Value* end, int64_t step, const Values& carried,
                           const std::function<Values(llvm::Value* index, std::span<llvm::Value* const> carried)>& body,
                           const char* name) {
  llvm::LLVMContext& context = module.getContext();
  llvm::BasicBlock* before = ir.GetInsertBlock();
  llvm::BasicBlock* inside = llvm::BasicBlock::Create(context, name, &function);
  llvm::BasicBlock* after = llvm::BasicBlock::Create(context, std::string(name) + ".end", &function);
  ir.CreateCondBr(ir.CreateICmpSLT(begin, end), inside, after);

  ir.SetInsertPoint(inside);
  llvm::PHINode* index = ir.CreatePHI(i64, 2, std::string(name) + ".i");
  index->addIncoming(begin, before);
  std::vector<llvm::PHINode*> phis;
  Values current;
  for (llvm::Value* value : carried) {
    llvm::PHINode* phi = ir.CreatePHI(value->getType(), 2);
    phi->addIncoming(value, before);
    phis.push_back(phi);
    current.push_back(phi);
  }
  const Values next = body(index, current);
  HARRIER_CHECK(next.size() == carried.size(), "a loop body must give back as many values as it carries");
  llvm::BasicBlock* last = ir.GetInsertBlock();
  llvm::Value* next_index = ir.CreateNSWAdd(index, int64(step));
  ir.CreateCondBr(ir.CreateICmpSLT(next_index, end), inside, after);
  index->addIncoming(next_index, last);
  for (size_t i = 0; i < phis.size(); ++i) phis[i]->addIncoming(next[i], last);

  ir.SetInsertPoint(after);
  Values result;
  for (size_t i = 0; i < carried.size(); ++i) {
    llvm::PHINode* phi = ir.CreatePHI(carried[i]->getType(), 2);
    phi->addIncoming(carried[i], before);
    phi->addIncoming(next[i], last);
    result.push_back(phi);
  }
  return result;
}

void KernelBuilder::if_then(llvm::Value* condition, const std::function<void()>& body, const char* name) {
  if_else(
      condition,
      [&] {
        body();
        return Values{};
      },
      [] { return Values{}; }, name);
}

Values KernelBuilder::if_else(llvm::Value* condition, const std::function<Values()>& if_true,
                              const std::function<Values()>& if_false, const char* name) {
  llvm::LLVMContext& context = module.getContext();
  llvm::BasicBlock* yes = llvm::BasicBlock::Create(context, name, &function);
  llvm::BasicBlock* no = llvm::BasicBlock::Create(context, std::string(name) + ".else", &function);
  llvm::BasicBlock* after = llvm::BasicBlock::Create(context, std::string(name) + ".end", &function);
  ir.CreateCondBr(condition, yes, no);

  ir.SetInsertPoint(yes);
  const Values true_values = if_true();
  llvm::BasicBlock* yes_end = ir.GetInsertBlock();
  ir.CreateBr(after);
  ir.SetInsertPoint(no);
  const Values false_values = if_false();
  llvm::BasicBlock* no_end = ir.GetInsertBlock();
  ir.CreateBr(after);
  HARRIER_CHECK(true_values.size() == false_values.size(), "both branches must give the same number of values");

  ir.SetInsertPoint(after);
  Values result;
  for (size_t i = 0; i < true_values.size(); ++i) {
    llvm::PHINode* phi = ir.CreatePHI(true_values[i]->getType(), 2);
    phi->addIncoming(true_values[i], yes_end);
    phi->addIncoming(false_values[i], no_end);
    result.push_back(phi);
  }
  return result;
}

namespace {

/// One stage of a transposition: swaps the off-diagonal half x half blocks of two rows that lie `half` apart.
void exchange(KernelBuilder& builder, llvm::Value*& first, llvm::Value*& second, int half) {
  std::vector<int> upper;
  std::vector<int> lower;
  for (int lane = 0; lane < builder.lanes; ++lane) {
    const bool from_second = (lane & half) != 0;
    upper.push_back(from_second ? builder.lanes + lane - half : lane);
    lower.push_back(from_second ? builder.lanes + lane : lane + half);
  }
  llvm::Value* above = builder.ir.CreateShuffleVector(first, second, upper);
  second = builder.ir.CreateShuffleVector(first, second, lower);
  first = above;
}

}  // namespace

void emit_transpose(KernelBuilder& builder, llvm::Value* buffer,
                    const std::function<llvm::Value*(llvm::Value* row)>& load_row,
                    const std::function<void(llvm::Value* column, llvm::Value* vector)>& store_row) {
  llvm::IRBuilder<>& ir = builder.ir;
  const int lanes = builder.lanes;
  constexpr int kNear = 4;  // rows 0..3 apart are exchanged in the first loop, the others in the second
  HARRIER_CHECK(lanes % kNear == 0 && (lanes & (lanes - 1)) == 0, "a block to transpose is a power of two from 4 on");
  const auto row_at = [&](llvm::Value* row) { return ir.CreateMul(row, builder.int64(lanes)); };
  builder.loop(
      builder.int64(0), builder.int64(lanes), kNear, {},
      [&](llvm::Value* first, std::span<llvm::Value* const>) {
        Values rows;
        for (int i = 0; i < kNear; ++i) rows.push_back(load_row(ir.CreateAdd(first, builder.int64(i))));
        exchange(builder, rows[0], rows[1], 1);
        exchange(builder, rows[2], rows[3], 1);
        exchange(builder, rows[0], rows[2], 2);
        exchange(builder, rows[1], rows[3], 2);
        for (int i = 0; i < kNear; ++i) {
          builder.store_floats(rows[static_cast<size_t>(i)], buffer, row_at(ir.CreateAdd(first, builder.int64(i))));
        }
        return Values{};
      },
      "transpose_near");
  builder.loop(
      builder.int64(0), builder.int64(kNear), 1, {},
      [&](llvm::Value* first, std::span<llvm::Value* const>) {
        const auto far_row = [&](size_t i) {
          return ir.CreateAdd(first, builder.int64(static_cast<int64_t>(i) * kNear));
        };
        Values rows;
        for (size_t i = 0; i < static_cast<size_t>(lanes / kNear); ++i) {
          rows.push_back(builder.load_floats(buffer, row_at(far_row(i))));
        }
        for (size_t half = 1; half < rows.size(); half *= 2) {
          for (size_t i = 0; i < rows.size(); ++i) {
            if ((i & half) == 0) exchange(builder, rows[i], rows[i + half], static_cast<int>(half) * kNear);
          }
        }
        for (size_t i = 0; i < rows.size(); ++i) store_row(far_row(i), rows[i]);
        return Values{};
      },
      "transpose_far");
}

}  // namespace harrier
