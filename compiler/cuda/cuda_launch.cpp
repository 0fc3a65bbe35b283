#include <fmt/format.h>

#include <algorithm>

#include "codegen/cuda/emit_stub.h"
#include "compiler/cuda/cuda_bound.h"
#include "compiler/harrier_cuda.h"
#include "ir/error.h"
#include "runtime/cuda/tensor_map.h"

namespace harrier {

struct CudaLaunch::State {
  CudaBinding bound;
  cuda::DeviceMemory workspace;  // the order's counter, then the parts of split rows
  ForwardParams params{};
  const SplitRow* split_rows = nullptr;
  const int* split_count = nullptr;
  cuda::LaunchShape forward;
  cuda::LaunchShape combine;
};

namespace {

constexpr int kRaggedLog2 = 27;
static_assert(kRaggedTokens == 1 << kRaggedLog2, "launcher and kernels must agree on ragged maps");
constexpr int64_t kOutputBoxRows = 64;
constexpr int64_t kCounterBytes = 256;
constexpr int kCombineThreads = 256;
constexpr int64_t kCombineQueries = 8;  // of a CTA

/// What a tensor must look like, and the tensor.
struct NamedTensor {
  const char* name;
  const CudaTensor& tensor;
  int64_t heads;
  int64_t columns;
  int64_t tokens;  // of one batch row
};

void check_tensor(const CudaCode& code, const NamedTensor& named) {
  const CudaTensor& tensor = named.tensor;
  if (named.tokens > 0) cuda::check_device_pointer(*code.gpu.device, tensor.data, named.name);
  constexpr int64_t kCopyElements = 8;
  const int64_t strides[] = {tensor.batch_stride, tensor.token_stride, tensor.head_stride};
  for (const int64_t stride : strides) {
    if (stride >= 0 && stride % kCopyElements == 0) continue;
    throw InvalidInput(
        fmt::format("{} has a stride of {} elements, kernels copy {} at a time: copy it to a tensor whose "
                    "strides are multiples of {}",
                    named.name, stride, kCopyElements, kCopyElements));
  }
  constexpr uint64_t kAlignment = 16;
  if (tensor.data % kAlignment != 0) {
    throw InvalidInput(
        fmt::format("{} starts at {:#x}, kernels need a multiple of {}: copy it", named.name, tensor.data, kAlignment));
  }
}

TensorRows rows_of(const NamedTensor& named) {
  return {.data = reinterpret_cast<void*>(named.tensor.data),
          .batch_stride = named.tensor.batch_stride,
          .token_stride = named.tensor.token_stride,
          .head_stride = named.tensor.head_stride,
          .columns = static_cast<int>(named.columns)};
}

TensorMap map_of(const CudaCode& code, const NamedTensor& named, int64_t batches, int64_t box_rows) {
  const cuda::MappedTensor mapped{.data = named.tensor.data,
                                  .dtype = code.compilation.workload.shape.dtype,
                                  .batches = batches,
                                  .tokens = named.tokens,
                                  .heads = named.heads,
                                  .columns = named.columns,
                                  .batch_stride = named.tensor.batch_stride,
                                  .token_stride = named.tensor.token_stride,
                                  .head_stride = named.tensor.head_stride};
  const cuda::TensorMapBytes bytes =
      cuda::encode_ragged_map(code.gpu.device->driver(), mapped,
                              {.rows = box_rows, .columns = panel_columns(named.columns)}, kRaggedLog2, named.name);
  TensorMap map{};
  std::ranges::copy(bytes.words, map.words);
  return map;
}

/// Documents whose ids fall have code of their own, which belongs to the same kernel; another thread may be making it.
bool belongs_to(const CudaBound& bound, const CudaCode& code) {
  if (bound.code.get() == &code) return true;
  const std::lock_guard lock(code.mutex);
  return bound.code == code.unsorted;
}

}  // namespace

CudaLaunch CudaKernel::prepare(const CudaTensors& tensors, const CudaBinding& binding) const {
  if (binding == nullptr || !belongs_to(*binding, *code_)) {
    throw InvalidInput("the binding is of another kernel: bind the arrays with the kernel that runs");
  }
  const CudaCode& code = *binding->code;
  const Shape& shape = code.compilation.workload.shape;
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

  auto state = std::make_shared<CudaLaunch::State>();
  state->bound = binding;
  // Room for the parts of split rows is no work where there are no rows: then nothing clears the builder's counters.
  const bool has_work = binding->build.rows > 0 && binding->built.order_length > 0;
  const int64_t tile_q = row_queries(plan);
  // Outputs, LSEs and (for pruned_as_zero) counts of the parts of split rows.
  const int64_t parts = binding->built.split_count > 0 ? binding->build.order.split_capacity : 0;
  const int64_t part_rows = parts * tile_q;
  const int64_t output_floats = part_rows * padded_dim(shape.value_dim);
  state->workspace = cuda::DeviceMemory(
      code.gpu.device, kCounterBytes + (output_floats + 2 * part_rows) * static_cast<int64_t>(sizeof(float)));
  const cuda::DevicePointer workspace = state->workspace.pointer();
  const cuda::Driver& driver = code.gpu.device->driver();
  cuda::check(driver, driver.fill_bytes(workspace, 0, kCounterBytes, nullptr), "clearing the counter");
  cuda::check(driver, driver.stream_synchronize(nullptr), "clearing the counter");

  ForwardParams& params = state->params;
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

  state->split_rows = binding->build.order.split_rows;
  state->split_count = &binding->build.order.state->split_count;
  state->forward = code.loaded->shape;
  state->forward.grid_x =
      has_work ? std::min(code.loaded->shape.grid_x, static_cast<unsigned>(binding->built.order_length)) : 0;
  state->combine = {.grid_x = static_cast<unsigned>(binding->built.split_count),
                    .grid_y = static_cast<unsigned>(tile_q / kCombineQueries),
                    .threads = kCombineThreads,
                    .shared_bytes = 0};
  return CudaLaunch(std::move(state));
}

void CudaLaunch::enqueue(cuda::Stream stream) const {
  if (state_->forward.grid_x == 0) return;
  const CudaCode& code = *state_->bound->code;
  const cuda::OpenDevice& device = *code.gpu.device;
  if (state_->bound->builds_anew) enqueue_build(code, state_->bound->build, stream);
  void* forward[] = {&state_->params};
  cuda::enqueue(device, code.loaded->forward, state_->forward, forward, stream);
  if (state_->combine.grid_x == 0) return;
  void* combine[] = {&state_->params, static_cast<void*>(&state_->split_rows),
                     static_cast<void*>(&state_->split_count)};
  cuda::enqueue(device, code.loaded->combine, state_->combine, combine, stream);
}

const CudaSchedule& CudaLaunch::schedule() const { return state_->bound->schedule; }
int64_t CudaLaunch::workspace_bytes() const { return state_->workspace.bytes(); }
int64_t CudaLaunch::split_rows() const { return state_->bound->built.split_count; }
int CudaLaunch::grid() const { return static_cast<int>(state_->forward.grid_x); }

}  // namespace harrier
