#include <chrono>
#include <cstring>
#include <limits>

#include "compiler/compiled_kernel.h"
#include "compiler/harrier.h"
#include "compiler/row_arguments.h"
#include "ir/error.h"
#include "runtime/cpu/launch_rows.h"

namespace harrier {
namespace {

/// Query rows of padding: zeros, LSE minus infinity.
void write_padding(const LaunchState& state, const PlacedTensors& tensors) {
  const Shape& shape = state.compilation->workload.shape;
  const std::vector<Sequence>& sequences = state.geometry->sequences;
  for (size_t b = 0; b < sequences.size(); ++b) {
    const Sequence& sequence = sequences[b];
    for (int64_t head = 0; head < shape.heads; ++head) {
      for (int64_t query = sequence.query_valid; query < sequence.query_length; ++query) {
        const auto batch = static_cast<int64_t>(b);
        std::memset(tensors.out.at(batch, head, sequence.query_token, query), 0,
                    static_cast<size_t>(shape.value_dim * tensors.out.element_bytes));
        if (tensors.lse.data == nullptr) continue;
        const float nothing = -std::numeric_limits<float>::infinity();
        std::memcpy(tensors.lse.at(batch, head, sequence.query_token, query), &nothing, sizeof(nothing));
      }
    }
  }
}

}  // namespace

RunReport Kernel::run(const AttentionTensors& tensors, const Bindings& bindings, const PassObserver& observer) const {
  const Compilation& compilation = compiled_->compilation;
  if (compilation.workload.shape.direction == Direction::kBackward) {
    throw InvalidInput(
        "the kernel is compiled with direction backward; call run_backward, or compile direction forward for run");
  }
  const Geometry geometry = check_tensors(tensors, compilation.workload.shape);
  RunReport report;
  LaunchState state{
      .compilation = &compilation, .geometry = &geometry, .bindings = &bindings, .bound = {}, .tiles = {}, .order = {}};
  PassObserver timed = observer;
  timed.times = &report.passes;
  run_passes(launch_passes(), state, timed);

  const PlacedTensors placed = place_tensors(tensors, compilation.workload.shape);
  const auto start = std::chrono::steady_clock::now();
  launch_rows(
      static_cast<int64_t>(state.order.size()), compiled_->threads, compiled_->code->scratch_floats,
      [&](int64_t row, float* scratch) {
        compiled_->code->row_function(row_arguments(state, placed, state.order[static_cast<size_t>(row)], scratch));
      });
  write_padding(state, placed);
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
