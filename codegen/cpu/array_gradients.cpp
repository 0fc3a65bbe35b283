#include "codegen/cpu/array_gradients.h"

#include <cstddef>

#include "codegen/cpu/emit_math.h"
#include "codegen/cpu/transposed_rows.h"
#include "ir/launch.h"

namespace harrier {
namespace {

bool varies_by_key(const Load& load) {
  for (const Expression& index : load.indices) {
    if (varies_by_key(index)) return true;
  }
  return false;
}

/// Offset in the scratch of what gathers over the row for load `i` of the slopes.
int64_t gathered_offset(const RowEmitter& emitter, size_t i) {
  return emitter.layout.load_gradients + static_cast<int64_t>(i) * emitter.layout.row_lanes;
}

llvm::Value* gradient_base(RowEmitter& emitter, const BackwardRow& backward, const std::string& array) {
  KernelBuilder& builder = emitter.builder;
  const int64_t slot = array_slot(emitter.source.lowered, array);
  return builder.field(backward.d_arrays, slot * static_cast<int64_t>(sizeof(float*)), builder.pointer, "d_array");
}

void add_to_element(KernelBuilder& builder, llvm::Value* base, llvm::Value* offset, llvm::Value* value) {
  llvm::Value* address = builder.at(base, offset, builder.f32);
  builder.ir.CreateStore(builder.ir.CreateFAdd(builder.ir.CreateLoad(builder.f32, address), value), address);
}

/// The sum of a vector's lanes, in an order of the compiler's choice: the same for the same code.
llvm::Value* lane_sum(KernelBuilder& builder, llvm::Value* value) {
  auto* sum = llvm::cast<llvm::Instruction>(builder.ir.CreateFAddReduce(builder.float32(0.0), value));
  sum->setHasAllowReassoc(true);
  return sum;
}

/// base[offsets[lane]] += value[lane] for the row's queries; a scalar offset takes them all. Lanes past the last query
/// hold zeros. Several lanes may share an element, so a vector of offsets is walked lane by lane.
void scatter_add(RowEmitter& emitter, llvm::Value* base, llvm::Value* offsets, llvm::Value* value) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  if (!offsets->getType()->isVectorTy()) return add_to_element(builder, base, offsets, lane_sum(builder, value));
  builder.loop(
      builder.int64(0), builder.int64(builder.lanes), 1, {},
      [&](llvm::Value* lane, std::span<llvm::Value* const>) {
        add_to_element(builder, base, ir.CreateExtractElement(offsets, lane), ir.CreateExtractElement(value, lane));
        return Values{};
      },
      "scatter_lane");
}

void add_sink_gradient(RowEmitter& emitter, const BackwardRow& backward) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const LoweredPattern& lowered = emitter.source.lowered;
  ExpressionEmitter expressions(builder, lowered, emitter.row);
  const Expression logit = load(lowered.sink_logits, {var::h()}, true);
  llvm::Value* base = gradient_base(emitter, backward, lowered.sink_logits);
  builder.if_then(
      ir.CreateIsNotNull(base),
      [&] {
        llvm::Value* natural = expressions.as_float(expressions.emit(logit, {}, 0));
        llvm::Value* base2 = builder.splat(ir.CreateFMul(natural, builder.float32(kLog2E)));
        llvm::Value* lse = emitter.scratch_at(emitter.layout.row_max);
        llvm::Value* delta = emitter.scratch_at(emitter.layout.delta);
        // The sink is a key whose value is 0: dP = 0.
        const Values sums = builder.loop(
            builder.int64(0), group_end(emitter), builder.lanes, {builder.splat_float(0.0)},
            [&](llvm::Value* lane, std::span<llvm::Value* const> carried) {
              llvm::Value* probability =
                  emit_exp2_nonpositive(builder, ir.CreateFSub(base2, builder.load_floats(lse, lane)));
              return Values{ir.CreateFSub(carried[0], ir.CreateFMul(probability, builder.load_floats(delta, lane)))};
            },
            "sink");
        const auto& load_node = std::get<Load>(logit.node);
        add_to_element(builder, base, expressions.element_offset(load_node, {}, 0), lane_sum(builder, sums[0]));
      },
      "d_sink");
}

}  // namespace

void emit_array_gradient_start(RowEmitter& emitter) {
  const auto loads = static_cast<int64_t>(emitter.source.slopes.in_loads.size());
  fill(emitter, emitter.layout.load_gradients, loads * emitter.layout.row_lanes, emitter.builder.splat_float(0.0));
}

void hoist_array_gradients(RowEmitter& emitter, TileScores& scores) {
  for (const LoadSlope& each : emitter.source.slopes.in_loads) {
    scores.hoist(each.slope);
    for (const Expression& index : each.load.indices) scores.hoist(index);
  }
}

void emit_array_gradients(RowEmitter& emitter, const BackwardRow& backward, TileScores& scores,
                          const PairGradients& pairs) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const std::vector<LoadSlope>& loads = emitter.source.slopes.in_loads;
  llvm::Value* counts = ir.CreateFCmpOGT(pairs.weights, builder.splat_float(0.0));
  for (size_t i = 0; i < loads.size(); ++i) {
    const auto gradient = [&] {
      llvm::Value* slope = scores.evaluate(loads[i].slope, pairs.dot, pairs.key, pairs.vector);
      return ir.CreateSelect(counts, ir.CreateFMul(pairs.d_scores, slope), builder.splat_float(0.0));
    };
    if (!varies_by_key(loads[i].load)) {
      llvm::Value* gathered = emitter.scratch_at(gathered_offset(emitter, i));
      llvm::Value* old = builder.load_floats(gathered, pairs.first_lane);
      builder.store_floats(ir.CreateFAdd(old, gradient()), gathered, pairs.first_lane);
      continue;
    }
    llvm::Value* base = gradient_base(emitter, backward, loads[i].load.array);
    builder.if_then(
        ir.CreateIsNotNull(base),
        [&] {
          const PairValues pair = scores.pair(pairs.dot, pairs.key, pairs.vector);
          llvm::Value* offsets = scores.expressions().element_offset(loads[i].load, pair, pairs.vector);
          scatter_add(emitter, base, offsets, gradient());
        },
        "d_array");
  }
}

void emit_array_gradient_end(RowEmitter& emitter, const BackwardRow& backward) {
  KernelBuilder& builder = emitter.builder;
  llvm::IRBuilder<>& ir = builder.ir;
  const std::vector<LoadSlope>& loads = emitter.source.slopes.in_loads;
  for (size_t i = 0; i < loads.size(); ++i) {
    const Load& load = loads[i].load;
    if (varies_by_key(load)) continue;
    llvm::Value* base = gradient_base(emitter, backward, load.array);
    builder.if_then(
        ir.CreateIsNotNull(base),
        [&] {
          emitter.for_each_group([&](llvm::Value* group_lane) {
            const Values positions = emitter.query_positions(group_lane);
            const Values gathered = emitter.load_group(emitter.scratch_at(gathered_offset(emitter, i)), group_lane);
            ExpressionEmitter expressions(builder, emitter.source.lowered, emitter.row);
            for (size_t v = 0; v < gathered.size(); ++v) {
              llvm::Value* offsets = expressions.element_offset(load, {.query = positions[v]}, static_cast<int>(v));
              scatter_add(emitter, base, offsets, gathered[v]);
            }
          });
        },
        "d_array_row");
  }
  if (emitter.source.lowered.softmax == SoftmaxKind::kSinkLogit) add_sink_gradient(emitter, backward);
}

}  // namespace harrier
