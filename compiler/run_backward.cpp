#include <chrono>
#include <cstring>
#include <vector>

#include "compiler/array_gradients.h"
#include "compiler/check_gradients.h"
#include "compiler/compiled_kernel.h"
#include "compiler/harrier.h"
#include "compiler/row_arguments.h"
#include "ir/error.h"
#include "runtime/cpu/launch_rows.h"
#include "runtime/cpu/ordered_rows.h"

namespace harrier {
namespace {

/// Gradients of K or V: sums of fp32, in place where that is the type of the result, else beside it until the end.
struct KeyGradient {
  Placement result;
  Placement sums;
  int64_t dims;
  std::vector<float> workspace = {};  // [key_tokens, kv_heads, dims]; empty where `sums` is `result`
};

KeyGradient place_key_gradient(const TensorView& tensor, bool packed, const Shape& shape, int64_t dims,
                               const Geometry& geometry) {
  KeyGradient gradient{.result = place(tensor, packed, bytes_of(shape.dtype)), .sums = {}, .dims = dims};
  gradient.sums = gradient.result;
  if (shape.dtype != DataType::kFloat32) {
    gradient.workspace.resize(static_cast<size_t>(geometry.key_tokens * shape.kv_heads * dims));
    gradient.sums = place_floats(gradient.workspace.data(), shape.kv_heads, dims);
  }
  return gradient;
}

struct PlacedGradients {
  Placement d_out;
  Placement d_q;
  KeyGradient d_k;
  KeyGradient d_v;
};

PlacedGradients place_gradients(const AttentionGradients& gradients, bool packed, const Shape& shape,
                                const Geometry& geometry) {
  const int64_t bytes = bytes_of(shape.dtype);
  return {.d_out = place(gradients.d_out, packed, bytes),
          .d_q = place(gradients.d_q, packed, bytes),
          .d_k = place_key_gradient(gradients.d_k, packed, shape, shape.head_dim, geometry),
          .d_v = place_key_gradient(gradients.d_v, packed, shape, shape.value_dim, geometry)};
}

/// visit(batch, kv head, sequence) for all of them, on all cores.
template <typename Visit>
void for_each_key_head(const Geometry& geometry, const Shape& shape, int threads, Visit&& visit) {
  const auto batch = std::ssize(geometry.sequences);
  launch_rows(batch * shape.kv_heads, threads, 0, [&](int64_t row, float*) {
    const int64_t b = row / shape.kv_heads;
    visit(b, row % shape.kv_heads, geometry.sequences[static_cast<size_t>(b)]);
  });
}

/// Sums in place start at 0. (A workspace does by itself.)
void clear_sums(const PlacedGradients& gradients, const Geometry& geometry, const Shape& shape, int threads) {
  if (shape.dtype != DataType::kFloat32) return;
  for_each_key_head(geometry, shape, threads, [&](int64_t b, int64_t head, const Sequence& sequence) {
    for (int64_t key = 0; key < sequence.key_length; ++key) {
      for (const KeyGradient* gradient : {&gradients.d_k, &gradients.d_v}) {
        std::memset(gradient->sums.at(b, head, sequence.key_token, key), 0,
                    static_cast<size_t>(gradient->dims) * sizeof(float));
      }
    }
  });
}

/// Rounds sums beside the result to its type.
void narrow_sums(const PlacedGradients& gradients, const Geometry& geometry, const Shape& shape, int threads,
                 const CpuCode& code) {
  if (shape.dtype == DataType::kFloat32) return;
  for_each_key_head(geometry, shape, threads, [&](int64_t b, int64_t head, const Sequence& sequence) {
    for (int64_t key = 0; key < sequence.key_length; ++key) {
      for (const KeyGradient* gradient : {&gradients.d_k, &gradients.d_v}) {
        const char* from = gradient->sums.at(b, head, sequence.key_token, key);
        code.narrow_function(reinterpret_cast<const float*>(from),
                             gradient->result.at(b, head, sequence.key_token, key), gradient->dims);
      }
    }
  });
}

/// dQ of padding: zeros.
void write_query_padding(const Placement& d_q, const Geometry& geometry, const Shape& shape) {
  for (int64_t b = 0; b < std::ssize(geometry.sequences); ++b) {
    const Sequence& sequence = geometry.sequences[static_cast<size_t>(b)];
    for (int64_t head = 0; head < shape.heads; ++head) {
      for (int64_t query = sequence.query_valid; query < sequence.query_length; ++query) {
        std::memset(d_q.at(b, head, sequence.query_token, query), 0,
                    static_cast<size_t>(shape.head_dim * d_q.element_bytes));
      }
    }
  }
}

void await_turn(void* turn, int64_t key_begin, int64_t key_end) {
  static_cast<RowTurn*>(turn)->await_keys(key_begin, key_end);
}

BackwardRowArguments backward_arguments(const RowArguments& row, const PlacedGradients& gradients,
                                        const ScheduledRow& scheduled, const Sequence& sequence, const Shape& shape) {
  const int64_t kv_head = scheduled.head / (shape.heads / shape.kv_heads);
  const auto query_at = [&](const Placement& tensor) {
    return tensor.at(scheduled.batch, scheduled.head, sequence.query_token, row.query_begin);
  };
  const auto sums_at = [&](const KeyGradient& gradient) {
    return reinterpret_cast<float*>(gradient.sums.at(scheduled.batch, kv_head, sequence.key_token, 0));
  };
  return {.row = row,
          .d_out = query_at(gradients.d_out),
          .d_q = query_at(gradients.d_q),
          .d_k = sums_at(gradients.d_k),
          .d_v = sums_at(gradients.d_v),
          .d_out_stride = gradients.d_out.token_stride,
          .d_q_stride = gradients.d_q.token_stride,
          .d_k_stride = gradients.d_k.sums.token_stride,
          .d_v_stride = gradients.d_v.sums.token_stride,
          .d_arrays = nullptr,
          .await_turn = await_turn,
          .turn = nullptr};
}

void run_rows(const CompiledKernel& kernel, const LaunchState& state, const PlacedTensors& tensors,
              const PlacedGradients& gradients, const ArrayGradients& arrays) {
  const Shape& shape = kernel.compilation.workload.shape;
  const int64_t group = shape.heads / shape.kv_heads;
  const auto shares = [&](int64_t earlier, int64_t later) {
    const SharedMemory by_arrays = arrays.shares(earlier, later);
    if (by_arrays != SharedMemory::kNone) return by_arrays;
    const ScheduledRow& first = state.order[static_cast<size_t>(earlier)];
    const ScheduledRow& second = state.order[static_cast<size_t>(later)];
    const bool is_same = first.batch == second.batch && first.head / group == second.head / group;
    return is_same ? SharedMemory::kByKey : SharedMemory::kNone;
  };
  launch_ordered_rows(std::ssize(state.order), kernel.threads, kernel.code->scratch_floats, shares,
                      [&](int64_t index, float* scratch, RowTurn& turn) {
                        const ScheduledRow& row = state.order[static_cast<size_t>(index)];
                        const Sequence& sequence = state.geometry->sequences[static_cast<size_t>(row.batch)];
                        BackwardRowArguments arguments = backward_arguments(row_arguments(state, tensors, row, scratch),
                                                                            gradients, row, sequence, shape);
                        arguments.d_arrays = arrays.pointers(index);
                        arguments.turn = &turn;
                        turn.await_row();
                        kernel.code->backward_row_function(arguments);
                      });
}

}  // namespace

RunReport Kernel::run_backward(const AttentionTensors& tensors, const AttentionGradients& gradients,
                               const Bindings& bindings, const PassObserver& observer) const {
  const Compilation& compilation = compiled_->compilation;
  const Shape& shape = compilation.workload.shape;
  if (shape.direction != Direction::kBackward) {
    throw InvalidInput("the kernel is compiled with direction forward; call run, or compile direction backward");
  }
  const Geometry geometry = check_tensors(tensors, shape);
  check_gradients(gradients, tensors, compilation.workload.pattern, bindings);
  RunReport report;
  LaunchState state{
      .compilation = &compilation, .geometry = &geometry, .bindings = &bindings, .bound = {}, .tiles = {}, .order = {}};
  PassObserver timed = observer;
  timed.times = &report.passes;
  run_passes(launch_passes(), state, timed);

  const int threads = compiled_->threads;
  const bool packed = !tensors.cu_seqlens.empty();
  const auto start = std::chrono::steady_clock::now();
  const PlacedGradients placed = place_gradients(gradients, packed, shape, geometry);
  ArrayGradients arrays(state, gradients.arrays);
  clear_sums(placed, geometry, shape, threads);
  run_rows(*compiled_, state, place_tensors(tensors, shape), placed, arrays);
  narrow_sums(placed, geometry, shape, threads, *compiled_->code);
  write_query_padding(placed.d_q, geometry, shape);
  arrays.finish();
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
  report.kernel_us = spent.count();
  report.rows = std::ssize(state.order);
  report.tiles = count_tiles(state.tiles, geometry, shape.heads);
  return report;
}

}  // namespace harrier
