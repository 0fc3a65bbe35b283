#include <chrono>
#include <cstring>
#include <limits>

#include "compiler/compiled_kernel.h"
#include "compiler/harrier.h"
#include "ir/error.h"
#include "runtime/cpu/launch_rows.h"

namespace harrier {
namespace {

/// A tensor as (sequence, head, position) -> element, whether it is packed or padded. Strides in elements.
struct Placement {
  char* data;
  int64_t element_bytes;
  int64_t batch_stride;
  int64_t head_stride;
  int64_t token_stride;
  bool packed;

  char* at(int64_t batch, int64_t head, int64_t first_token, int64_t position) const {
    const int64_t place =
        packed ? (first_token + position) * token_stride : batch * batch_stride + position * token_stride;
    return data + (place + head * head_stride) * element_bytes;
  }
};

/// Works for tensors with a head dim and for lse, which has none: what follows the token dimension is never strided
/// here.
Placement place(const TensorView& tensor, bool packed, int64_t element_bytes) {
  std::vector<int64_t> strides = tensor.strides;
  if (strides.empty()) {
    strides.assign(tensor.shape.size(), 1);
    for (size_t i = tensor.shape.size() - 1; i-- > 0;) strides[i] = strides[i + 1] * tensor.shape[i + 1];
  }
  auto* data = static_cast<char*>(tensor.data);
  if (packed) return {data, element_bytes, 0, strides[1], strides[0], true};
  return {data, element_bytes, strides[0], strides[1], strides[2], false};
}

struct Launch {
  const LaunchState& state;
  Placement q;
  Placement k;
  Placement v;
  Placement out;
  Placement lse;
  bool wants_lse;
};

Launch place_tensors(const AttentionTensors& tensors, const LaunchState& state) {
  const bool packed = !tensors.cu_seqlens.empty();
  const int64_t bytes = bytes_of(state.compilation->workload.shape.dtype);
  const bool wants_lse = tensors.lse.data != nullptr;
  return {.state = state,
          .q = place(tensors.q, packed, bytes),
          .k = place(tensors.k, packed, bytes),
          .v = place(tensors.v, packed, bytes),
          .out = place(tensors.out, packed, bytes),
          .lse = wants_lse ? place(tensors.lse, packed, sizeof(float)) : Placement{},
          .wants_lse = wants_lse};
}

RowArguments row_arguments(const Launch& launch, const ScheduledRow& row, float* scratch) {
  const LaunchState& state = launch.state;
  const Shape& shape = state.compilation->workload.shape;
  const Sequence& sequence = state.geometry->sequences[static_cast<size_t>(row.batch)];
  const int64_t tile_q = state.tiles.tile_q;
  const int64_t first_query = row.tile * tile_q;
  const int64_t kv_head = row.head / (shape.heads / shape.kv_heads);
  const int64_t row_index = state.tiles.row_index(row.batch, row.head, row.tile);
  const int64_t first_run = state.tiles.run_offsets[static_cast<size_t>(row_index)];
  const int64_t end_run = state.tiles.run_offsets[static_cast<size_t>(row_index) + 1];
  const auto query_at = [&](const Placement& tensor) {
    return tensor.at(row.batch, row.head, sequence.query_token, first_query);
  };
  return {
      .q = query_at(launch.q),
      .k = launch.k.at(row.batch, kv_head, sequence.key_token, 0),
      .v = launch.v.at(row.batch, kv_head, sequence.key_token, 0),
      .out = query_at(launch.out),
      .lse = launch.wants_lse ? reinterpret_cast<float*>(query_at(launch.lse)) : nullptr,
      .q_stride = launch.q.token_stride,
      .k_stride = launch.k.token_stride,
      .v_stride = launch.v.token_stride,
      .out_stride = launch.out.token_stride,
      .lse_stride = launch.lse.token_stride,
      .query_token = sequence.query_token,
      .key_token = sequence.key_token,
      .batch = row.batch,
      .head = row.head,
      .query_begin = static_cast<int32_t>(first_query),
      .query_count = static_cast<int32_t>(std::min(tile_q, sequence.query_valid - first_query)),
      .query_length = static_cast<int32_t>(sequence.query_length),
      .key_length = static_cast<int32_t>(sequence.key_length),
      .runs = state.tiles.runs.data() + first_run,
      .run_count = end_run - first_run,
      .arrays = state.bound.arrays.data(),
      .int_parameters = state.bound.int_parameters.data(),
      .float_parameters = state.bound.float_parameters.data(),
      .scratch = scratch,
  };
}

/// Query rows of padding: zeros, LSE minus infinity.
void write_padding(const Launch& launch) {
  const Shape& shape = launch.state.compilation->workload.shape;
  const std::vector<Sequence>& sequences = launch.state.geometry->sequences;
  for (size_t b = 0; b < sequences.size(); ++b) {
    const Sequence& sequence = sequences[b];
    for (int64_t head = 0; head < shape.heads; ++head) {
      for (int64_t query = sequence.query_valid; query < sequence.query_length; ++query) {
        const auto batch = static_cast<int64_t>(b);
        std::memset(launch.out.at(batch, head, sequence.query_token, query), 0,
                    static_cast<size_t>(shape.value_dim * launch.out.element_bytes));
        if (!launch.wants_lse) continue;
        const float nothing = -std::numeric_limits<float>::infinity();
        std::memcpy(launch.lse.at(batch, head, sequence.query_token, query), &nothing, sizeof(nothing));
      }
    }
  }
}

}  // namespace

RunReport Kernel::run(const AttentionTensors& tensors, const Bindings& bindings, const PassObserver& observer) const {
  const Compilation& compilation = compiled_->compilation;
  const Geometry geometry = check_tensors(tensors, compilation.workload.shape);
  RunReport report;
  LaunchState state{
      .compilation = &compilation, .geometry = &geometry, .bindings = &bindings, .bound = {}, .tiles = {}, .order = {}};
  PassObserver timed = observer;
  timed.times = &report.passes;
  run_passes(launch_passes(), state, timed);

  const Launch launch = place_tensors(tensors, state);
  const auto start = std::chrono::steady_clock::now();
  launch_rows(static_cast<int64_t>(state.order.size()), compiled_->threads, compiled_->code->scratch_floats,
              [&](int64_t row, float* scratch) {
                compiled_->code->row_function(row_arguments(launch, state.order[static_cast<size_t>(row)], scratch));
              });
  write_padding(launch);
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
  report.kernel_us = spent.count();
  report.rows = static_cast<int64_t>(state.order.size());
  report.tiles = count_tiles(state.tiles, geometry, compilation.workload.shape.heads);
  return report;
}

const Compilation& Kernel::compilation() const { return compiled_->compilation; }

const std::vector<PassTime>& Kernel::compile_times() const { return compiled_->compile_times; }

std::string Kernel::llvm_ir() const { return cpu_kernel_text(compiled_->compilation); }

}  // namespace harrier
