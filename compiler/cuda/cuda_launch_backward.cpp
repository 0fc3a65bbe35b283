#include <fmt/format.h>

#include <algorithm>

#include "codegen/cuda/emit_builder.h"
#include "compiler/cuda/launch_state.h"
#include "compiler/cuda/launch_tensors.h"
#include "compiler/harrier_cuda.h"
#include "ir/cuda_backward_plan.h"
#include "ir/error.h"

namespace harrier {
namespace {

constexpr int64_t kColumnsCounter = 128;  // from the start of the workspace
constexpr int64_t kRowsOfJoin = 8;        // of a CTA

/// Numbers of four bytes, most of them floats, of a workspace that kernels hand to each other, one after the other.
struct Floats {
  int64_t count = 0;
  int64_t add(int64_t floats) {
    constexpr int64_t kAlignment = 64;
    const int64_t place = count;
    count += (floats + kAlignment - 1) / kAlignment * kAlignment;
    return place;
  }
};

bool has_gradient(const CudaCompilation& compilation, const std::string& name) {
  if (compilation.lowered.softmax == SoftmaxKind::kSinkLogit && compilation.lowered.sink_logits == name) return true;
  return std::ranges::any_of(compilation.slopes.in_loads,
                             [&](const LoadSlope& each) { return each.load.array == name; });
}

/// The gradient of each array slot that is wanted, and what must be zero before. True where some are of loads.
bool set_arrays(const CudaBound& bound, const CudaGradients& gradients, CudaLaunchState& state,
                BackwardParams& params) {
  const CudaCompilation& compilation = bound.code->compilation;
  if (compilation.workload.shape.deterministic && !gradients.arrays.empty()) {
    throw InvalidInput(fmt::format(
        "the gradient of @{} is summed in the order of arrival, the workload's gradients are deterministic: "
        "leave it out, or compile direction backward without deterministic",
        gradients.arrays.begin()->first));
  }
  bool has_loads = false;
  for (const auto& [name, data] : gradients.arrays) {
    const std::vector<ArraySlot>& slots = compilation.pattern.arrays;
    const auto slot = std::ranges::find(slots, name, &ArraySlot::name);
    if (slot == slots.end() || !has_gradient(compilation, name)) {
      throw InvalidInput(
          fmt::format("@{} has no gradient: only floats that scores or the softmax read have one; leave it out", name));
    }
    const auto place = static_cast<size_t>(slot - slots.begin());
    const auto bytes = static_cast<size_t>(bound.pattern.array_elements[place]) * sizeof(float);
    cuda::check_device_pointer(*bound.code->gpu.device, data, ("the gradient of @" + name).c_str(), sizeof(float));
    params.d_arrays[place] = reinterpret_cast<float*>(data);
    if (bytes > 0) state.zeros.push_back({data, bytes});
    has_loads = has_loads || name != compilation.lowered.sink_logits;
  }
  return has_loads;
}

/// Kernels in the order of the stream.
class StepList {
 public:
  StepList(CudaLaunchState& state, BackwardParams& params) : state_(state), params_(params) {}

  void add(cuda::Function function, const cuda::LaunchShape& shape, SplitList* split = nullptr) {
    if (shape.grid_x == 0 || shape.grid_y == 0) return;
    CudaLaunchState::Step step{.function = function, .shape = shape, .parameters = {&params_}};
    if (split != nullptr) step.parameters = split->behind(&params_);
    state_.steps.push_back(step);
  }

 private:
  CudaLaunchState& state_;
  BackwardParams& params_;
};

cuda::LaunchShape grid_of(int64_t x, int64_t y) {
  return {.grid_x = static_cast<unsigned>(x),
          .grid_y = static_cast<unsigned>(y),
          .threads = kCudaBuildThreads,
          .shared_bytes = 0};
}

/// At most so many CTAs as there are items.
cuda::LaunchShape at_most(cuda::LaunchShape shape, int items) {
  shape.grid_x = std::min(shape.grid_x, static_cast<unsigned>(items));
  return shape;
}

void set_maps(const CudaCode& code, int64_t batches, const NamedTensor& q, const NamedTensor& k, const NamedTensor& v,
              const NamedTensor& d_out, BackwardParams& params) {
  const CudaPlan& plan = code.compilation.plan;
  if (plan.family != CudaFamily::kSm90) return;
  const int64_t tile_q = row_queries(plan);
  if (q.tokens > 0) {
    params.query = map_of(code, q, batches, tile_q);
    params.d_output = map_of(code, d_out, batches, tile_q);
  }
  if (k.tokens > 0) {
    params.key = map_of(code, k, batches, plan.tile_k);
    params.value = map_of(code, v, batches, plan.tile_k);
  }
  // Without queries or keys nothing is brought, but the kernel prefetches its maps: they have to be some.
  if (q.tokens == 0) params.query = params.d_output = params.key;
  if (k.tokens == 0) params.key = params.value = params.query;
}

}  // namespace

CudaLaunch CudaKernel::prepare_backward(const CudaTensors& tensors, const CudaGradients& gradients,
                                        const CudaBinding& binding) const {
  check_binding(binding, *code_);
  const CudaCode& code = *binding->code;
  const Shape& shape = code.compilation.workload.shape;
  if (shape.direction != Direction::kBackward) {
    throw InvalidInput("the kernel is compiled with direction forward; call prepare, or compile direction backward");
  }
  const CudaPlan& plan = code.compilation.plan;
  const bool sm90 = plan.family == CudaFamily::kSm90;
  const Geometry& geometry = binding->geometry;
  const DeviceBuild& build = binding->build;
  const ColumnBuild& columns = *build.columns;
  const int64_t batches = binding->packed ? 1 : int64_t{build.order.batches};
  const int64_t query_tokens = binding->packed ? geometry.query_tokens : binding->sequences.query_length;
  const int64_t key_tokens = binding->packed ? geometry.key_tokens : binding->sequences.key_length;
  const NamedTensor q{"q", tensors.q, shape.heads, shape.head_dim, query_tokens};
  const NamedTensor k{"k", tensors.k, shape.kv_heads, shape.head_dim, key_tokens};
  const NamedTensor v{"v", tensors.v, shape.kv_heads, shape.value_dim, key_tokens};
  const NamedTensor out{"out", tensors.out, shape.heads, shape.value_dim, query_tokens};
  const NamedTensor d_out{"d_out", gradients.d_out, shape.heads, shape.value_dim, query_tokens};
  const NamedTensor d_q{"d_q", gradients.d_q, shape.heads, shape.head_dim, query_tokens};
  const NamedTensor d_k{"d_k", gradients.d_k, shape.kv_heads, shape.head_dim, key_tokens};
  const NamedTensor d_v{"d_v", gradients.d_v, shape.kv_heads, shape.value_dim, key_tokens};
  for (const NamedTensor* named : {&q, &k, &v, &out, &d_out, &d_q, &d_k, &d_v}) check_tensor(code, *named);
  const cuda::CurrentContext current(*code.gpu.device);
  if (query_tokens > 0) cuda::check_device_pointer(*code.gpu.device, tensors.lse.data, "lse", sizeof(float));

  auto state = std::make_shared<CudaLaunchState>();
  state->bound = binding;
  const int64_t tile_q = row_queries(plan);
  const int64_t head_dim = padded_dim(shape.head_dim), value_dim = padded_dim(shape.value_dim);
  const int64_t places = build.rows * shape.heads * tile_q;
  const int64_t column_parts = binding->built_columns.split_count > 0 ? columns.order.order.split_capacity : 0;
  const int64_t row_parts = !sm90 && binding->built.split_count > 0 ? build.order.split_capacity : 0;
  Floats floats;
  const int64_t lse_at = floats.add(places);
  const int64_t delta_at = floats.add(places);
  const int64_t sums_at = floats.add(sm90 ? places * head_dim : 0);
  const int64_t column_parts_at = floats.add(column_parts * plan.tile_k * (head_dim + value_dim));
  const int64_t row_parts_at = floats.add(row_parts * tile_q * head_dim);
  static_assert(sizeof(uint32) == sizeof(float));
  const int64_t turns_at = floats.add(build.rows * shape.heads * turns_of_tile(plan));
  state->workspace = make_workspace(code.gpu.device, floats.count * static_cast<int64_t>(sizeof(float)));
  const cuda::DevicePointer workspace = state->workspace.pointer();
  const auto float_at = [&](int64_t place) { return reinterpret_cast<float*>(workspace + kCounterBytes) + place; };

  auto& params = state->params.emplace<BackwardParams>();
  set_maps(code, batches, q, k, v, d_out, params);
  params.query_rows = rows_of(q);
  params.key_rows = rows_of(k);
  params.value_rows = rows_of(v);
  params.output_rows = rows_of(out);
  params.d_output_rows = rows_of(d_out);
  params.d_query_rows = rows_of(d_q);
  params.d_key_rows = rows_of(d_k);
  params.d_value_rows = rows_of(d_v);
  params.arguments = binding->arguments;
  params.sequences = binding->sequences;
  params.key_lists = build.order.lists;
  params.query_lists = columns.order.lists;
  params.rows = {build.order.order, &build.order.state->order_length, reinterpret_cast<int*>(workspace)};
  params.columns = {columns.order.order.order, &columns.order.order.state->order_length,
                    reinterpret_cast<int*>(workspace + kColumnsCounter)};
  params.heads = static_cast<int>(shape.heads);
  params.heads_per_kv_head = static_cast<int>(shape.heads / shape.kv_heads);
  params.batches = build.order.batches;
  params.rows_per_batch = build.order.rows_per_batch;
  params.tile_places = static_cast<int>(build.rows);
  params.lse = reinterpret_cast<const float*>(tensors.lse.data);
  params.lse_batch_stride = tensors.lse.batch_stride;
  params.lse_head_stride = tensors.lse.head_stride;
  params.lse_token_stride = tensors.lse.token_stride;
  params.log2_lse = float_at(lse_at);
  params.delta = float_at(delta_at);
  params.d_query_sums = sm90 ? float_at(sums_at) : nullptr;
  params.column_parts = float_at(column_parts_at);
  params.row_parts = float_at(row_parts_at);
  params.turns = reinterpret_cast<uint32*>(float_at(turns_at));
  params.entry_turns = columns.lists.entry_turns;
  params.score_scale = binding->score_scale;
  params.slope = binding->slope;
  params.padding_score = binding->padding_score;
  const bool has_loads = set_arrays(*binding, gradients, *state, params);

  const BackwardCode& entries = *code.loaded->backward;
  const int items = columns.columns > 0 ? binding->built_columns.order_length : 0;
  const int row_items = build.rows > 0 ? binding->built.order_length : 0;
  StepList steps(*state, params);
  steps.add(entries.stats, grid_of(build.rows, shape.heads));
  steps.add(entries.columns, at_most(code.loaded->shape, items));
  if (sm90) {
    cuda::LaunchShape finish = grid_of(build.rows, shape.heads);
    finish.grid_z = static_cast<unsigned>(tile_q / kWarpgroupRows);
    finish.threads = kWarpgroupThreads;
    steps.add(entries.queries, finish);
  } else {
    steps.add(entries.rows, at_most(entries.rows_shape, row_items));
  }
  if (has_loads) steps.add(entries.arrays, at_most(entries.arrays_shape, items));
  if (column_parts > 0) {
    const OrderParams& order = columns.order.order;
    state->split_columns = {order.split_rows, &order.state->split_count};
    steps.add(entries.join_columns, grid_of(binding->built_columns.split_count, plan.tile_k / kRowsOfJoin),
              &state->split_columns);
  }
  if (row_parts > 0) {
    state->split_rows = {build.order.split_rows, &build.order.state->split_count};
    steps.add(entries.join_rows, grid_of(binding->built.split_count, tile_q / kRowsOfJoin), &state->split_rows);
  }
  state->grid = static_cast<int>(at_most(code.loaded->shape, items).grid_x);
  return CudaLaunch(std::move(state));
}

}  // namespace harrier
