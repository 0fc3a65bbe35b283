#include <algorithm>

#include "codegen/cuda/emit_stub.h"
#include "compiler/cuda/cuda_bound.h"
#include "compiler/cuda/launch_state.h"
#include "compiler/cuda/launch_tensors.h"
#include "compiler/harrier_cuda.h"
#include "ir/error.h"

namespace harrier {

namespace {

constexpr int64_t kOutputBoxRows = 64;
constexpr int kCombineThreads = 256;
constexpr int64_t kCombineQueries = 8;  // of a CTA

}  // namespace

CudaLaunch CudaKernel::prepare(const CudaTensors& tensors, const CudaBinding& binding) const {
  check_binding(binding, *code_);
  const CudaCode& code = *binding->code;
  const Shape& shape = code.compilation.workload.shape;
  if (shape.direction == Direction::kBackward) {
    throw InvalidInput("the kernel is compiled with direction backward; call prepare_backward, or compile forward");
  }
  const CudaPlan& plan = code.compilation.plan;
  const Geometry& geometry = binding->geometry;
  const int64_t batches = binding->packed ? 1 : int64_t{binding->build.order.batches};
  const int64_t query_tokens = binding->packed ? geometry.query_tokens : binding->sequences.query_length;
  const int64_t key_tokens = binding->packed ? geometry.key_tokens : binding->sequences.key_length;
  const NamedTensor q{"q", tensors.q, shape.heads, shape.head_dim, query_tokens};
  const NamedTensor k{"k", tensors.k, shape.kv_heads, shape.head_dim, key_tokens};
  const NamedTensor v{"v", tensors.v, shape.kv_heads, shape.value_dim, key_tokens};
  const NamedTensor out{"out", tensors.out, shape.heads, shape.value_dim, query_tokens};
  for (const NamedTensor* named : {&q, &k, &v, &out}) check_tensor(code, *named);
  const cuda::CurrentContext current(*code.gpu.device);
  if (tensors.lse.data != 0) {
    cuda::check_device_pointer(*code.gpu.device, tensors.lse.data, "lse", sizeof(float));
  }

  auto state = std::make_shared<CudaLaunchState>();
  state->bound = binding;
  // Room for the parts of split rows is no work where there are no rows: then nothing clears the builder's counters.
  const bool has_work = binding->build.rows > 0 && binding->built.order_length > 0;
  const int64_t tile_q = row_queries(plan);
  // Outputs, LSEs and (for pruned_as_zero) counts of the parts of split rows.
  const int64_t parts = binding->built.split_count > 0 ? binding->build.order.split_capacity : 0;
  const int64_t part_rows = parts * tile_q;
  const int64_t output_floats = part_rows * padded_dim(shape.value_dim);
  state->workspace =
      make_workspace(code.gpu.device, (output_floats + 2 * part_rows) * static_cast<int64_t>(sizeof(float)));
  const cuda::DevicePointer workspace = state->workspace.pointer();

  auto& params = state->params.emplace<ForwardParams>();
  if (plan.family == CudaFamily::kSm90 && query_tokens > 0) {
    params.query = map_of(code, q, batches, tile_q);
    params.output = map_of(code, out, batches, kOutputBoxRows);
    // Without keys nothing is brought, but the kernel prefetches its maps: they have to be some.
    params.key = key_tokens > 0 ? map_of(code, k, batches, plan.box_rows) : params.query;
    params.value = key_tokens > 0 ? map_of(code, v, batches, plan.box_rows) : params.query;
  }
  params.query_rows = rows_of(q);
  params.key_rows = rows_of(k);
  params.value_rows = rows_of(v);
  params.output_rows = rows_of(out);
  params.arguments = binding->arguments;
  params.sequences = binding->sequences;
  params.lists = binding->build.order.lists;
  params.order = binding->build.order.order;
  params.order_length = &binding->build.order.state->order_length;
  params.work_count = binding->built.order_length;
  params.heads = static_cast<int>(shape.heads);
  params.heads_per_kv_head = static_cast<int>(shape.heads / shape.kv_heads);
  params.heads_per_group = binding->schedule.heads_per_group;
  params.counter = reinterpret_cast<int*>(workspace);
  params.lse = reinterpret_cast<float*>(tensors.lse.data);
  params.lse_batch_stride = tensors.lse.batch_stride;
  params.lse_head_stride = tensors.lse.head_stride;
  params.lse_token_stride = tensors.lse.token_stride;
  params.split_output = reinterpret_cast<float*>(workspace + kCounterBytes);
  params.split_lse = params.split_output + output_floats;
  params.score_scale = binding->score_scale;
  params.padding_score = binding->padding_score;
  if (code.compilation.lowered.softmax == SoftmaxKind::kPrunedAsZero) {
    params.split_shown = reinterpret_cast<int*>(params.split_lse + part_rows);
  }

  if (!has_work) return CudaLaunch(std::move(state));
  cuda::LaunchShape forward = code.loaded->shape;
  forward.grid_x = std::min(forward.grid_x, static_cast<unsigned>(binding->built.order_length));
  state->grid = static_cast<int>(forward.grid_x);
  state->steps.push_back({code.loaded->forward, forward, {&params}});
  if (binding->built.split_count > 0) {
    state->split_rows = {binding->build.order.split_rows, &binding->build.order.state->split_count};
    const cuda::LaunchShape combine{.grid_x = static_cast<unsigned>(binding->built.split_count),
                                    .grid_y = static_cast<unsigned>(tile_q / kCombineQueries),
                                    .threads = kCombineThreads,
                                    .shared_bytes = 0};
    state->steps.push_back({code.loaded->combine, combine, state->split_rows.behind(&params)});
  }
  return CudaLaunch(std::move(state));
}

void CudaLaunch::enqueue(cuda::Stream stream, bool rebuild) const {
  if (state_->steps.empty()) return;
  const CudaCode& code = *state_->bound->code;
  const cuda::OpenDevice& device = *code.gpu.device;
  const cuda::CurrentContext current(device);
  if (state_->bound->builds_anew && rebuild) enqueue_build(code, state_->bound->build, stream);
  for (const CudaLaunchState::Zeros& zeros : state_->zeros) {
    cuda::check(device.driver(), device.driver().fill_bytes(zeros.data, 0, zeros.bytes, stream), "clearing a gradient");
  }
  for (const CudaLaunchState::Step& step : state_->steps) {
    std::array<void*, 3> parameters = step.parameters;
    cuda::enqueue(device, step.function, step.shape, parameters.data(), stream);
  }
}

const CudaSchedule& CudaLaunch::schedule() const { return state_->bound->schedule; }
int64_t CudaLaunch::workspace_bytes() const { return state_->workspace.bytes(); }
int64_t CudaLaunch::split_rows() const { return state_->bound->built.split_count; }
int CudaLaunch::grid() const { return state_->grid; }

}  // namespace harrier
