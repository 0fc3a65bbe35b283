// Launches of gradients: their tensors, and their kernels in the order of the stream.
#pragma once

#include "enqueue.h"
#include "tensors.h"

static int set_gradient_maps(const harrier_kernels* kernels, const LaunchPlan* plan, const NamedTensor* const* tensors,
                             BackwardParams* params, harrier_kernels_error* error) {
  const KernelFacts* facts = plan->kernel->facts;
  const uint32_t tile_q = (uint32_t)facts->tile_q, tile_k = (uint32_t)facts->tile_k;
  int code = 0;
  if (plan->query_tokens > 0) {
    code = encode_map(kernels, plan, tensors[0], tile_q, &params->query, error);
    if (!code) code = encode_map(kernels, plan, tensors[4], tile_q, &params->d_output, error);
  }
  if (plan->key_tokens > 0) {
    if (!code) code = encode_map(kernels, plan, tensors[1], tile_k, &params->key, error);
    if (!code) code = encode_map(kernels, plan, tensors[2], tile_k, &params->value, error);
  }
  // Without queries or keys nothing is brought, but the kernel prefetches its maps: they have to be some.
  if (plan->query_tokens == 0) params->query = params->d_output = params->key;
  if (plan->key_tokens == 0) params->key = params->value = params->query;
  return code;
}

// Where the gradients of arrays go. The plan has checked the shapes of the arrays themselves.
static int set_array_gradients(const harrier_kernels* kernels, const harrier_kernels_call* call,
                               const harrier_kernels_gradients* gradients, LaunchPlan* plan,
                               harrier_kernels_error* error) {
  const WorkloadFacts* workload = plan->workload;
  if (gradients->array_count < 0 || (gradients->array_count > 0 && gradients->arrays == NULL)) {
    return fail(error, harrier_kernels_invalid_input,
                "%d gradients of arrays are wanted, but `arrays` is null: name them", gradients->array_count);
  }
  if (gradients->array_count > 0 && plan->kernel->facts->deterministic) {
    return fail(
        error, harrier_kernels_invalid_input,
        "gradients of %d arrays are wanted, which are summed in the order of arrival, and %.48s is deterministic: "
        "leave them out, or export direction backward without deterministic",
        gradients->array_count, workload->name);
  }
  for (int i = 0; i < gradients->array_count; ++i) {
    const harrier_kernels_array* array = &gradients->arrays[i];
    const char* name = array->name != NULL ? array->name : "";
    int slot = 0;
    while (slot < workload->array_count && strcmp(workload->arrays[slot].name, name) != 0) ++slot;
    if (slot == workload->array_count || workload->arrays[slot].gradient == kNoGradient) {
      return fail(error, harrier_kernels_invalid_input,
                  "@%.48s has no gradient: only floats that scores or the softmax read have one; leave it out", name);
    }
    const harrier_kernels_array* bound = find_array(call, name);
    int fits = array->rank == bound->rank;
    int64_t elements = 1;
    for (int d = 0; fits && d < bound->rank; ++d) {
      fits = array->shape[d] == bound->shape[d];
      elements *= bound->shape[d];
    }
    if (!fits || array->type != harrier_kernels_float32) {
      return fail(error, harrier_kernels_invalid_input,
                  "the gradient of @%.48s has another shape or type than float32 of its array's: make it so", name);
    }
    if (elements == 0) continue;
    const int code = check_address(kernels, array->data, "the gradient of @", name, sizeof(float), error);
    if (code) return code;
    BackwardPlan* backward = &plan->backward;
    backward->params.d_arrays[slot] = array->data;
    backward->array_bytes[slot] = elements * (int64_t)sizeof(float);
    if (workload->arrays[slot].gradient == kGradientOfLoads) backward->learns = 1;
  }
  return harrier_kernels_success;
}

// Checks all addresses of a call and of its gradients and puts them into the plan.
static int set_gradients(const harrier_kernels* kernels, const harrier_kernels_call* call,
                         const harrier_kernels_gradients* gradients, LaunchPlan* plan, harrier_kernels_error* error) {
  const WorkloadFacts* workload = plan->workload;
  const KernelFacts* facts = plan->kernel->facts;
  const int64_t heads = workload->heads, kv_heads = workload->kv_heads;
  const int64_t head_dim = workload->head_dim, value_dim = workload->value_dim;
  const int64_t queries = plan->query_tokens, keys = plan->key_tokens;
  const NamedTensor q = {"q", &call->q, heads, head_dim, queries};
  const NamedTensor k = {"k", &call->k, kv_heads, head_dim, keys};
  const NamedTensor v = {"v", &call->v, kv_heads, value_dim, keys};
  const NamedTensor out = {"out", &call->out, heads, value_dim, queries};
  const NamedTensor d_out = {"d_out", &gradients->d_out, heads, value_dim, queries};
  const NamedTensor d_q = {"d_q", &gradients->d_q, heads, head_dim, queries};
  const NamedTensor d_k = {"d_k", &gradients->d_k, kv_heads, head_dim, keys};
  const NamedTensor d_v = {"d_v", &gradients->d_v, kv_heads, value_dim, keys};
  const NamedTensor* const all[] = {&q, &k, &v, &out, &d_out, &d_q, &d_k, &d_v};
  int code = 0;
  for (int i = 0; i < 8 && !code; ++i) code = check_tensor(kernels, all[i], error);
  if (!code) code = check_lengths_and_arrays(kernels, call, error);
  if (!code && queries > 0) code = check_address(kernels, call->lse.data, "", "lse", sizeof(float), error);
  if (!code) code = set_array_gradients(kernels, call, gradients, plan, error);
  if (code) return code;

  BackwardParams* params = &plan->backward.params;
  TensorRows* const rows[] = {&params->query_rows,  &params->key_rows,      &params->value_rows,
                              &params->output_rows, &params->d_output_rows, &params->d_query_rows,
                              &params->d_key_rows,  &params->d_value_rows};
  for (int i = 0; i < 8; ++i) *rows[i] = rows_of(all[i]);
  params->lse = call->lse.data;
  params->lse_batch_stride = call->lse.batch_stride;
  params->lse_head_stride = call->lse.head_stride;
  params->lse_token_stride = call->lse.token_stride;
  memcpy(&params->score_scale, &facts->score_scale_bits, sizeof params->score_scale);
  memcpy(&params->slope, &facts->slope_bits, sizeof params->slope);
  memcpy(&params->padding_score, &workload->padding_score_bits, sizeof params->padding_score);
  return facts->maps ? set_gradient_maps(kernels, plan, all, params, error) : harrier_kernels_success;
}

// Lists of query tiles by column, and the order of columns.
static int build_columns(const harrier_kernels* kernels, LaunchPlan* plan, void* stream, harrier_kernels_error* error) {
  const LoadedKernel* kernel = plan->kernel;
  BackwardPlan* backward = &plan->backward;
  const int64_t by_warp = divide_up(backward->count, kBuildThreads / 32);
  const int64_t by_thread = divide_up(backward->count, kBuildThreads);
  const int64_t heads = backward->columns.order.measured_heads;
  void* transpose[] = {&backward->transpose};
  void* columns[] = {&backward->columns};
  void* order[] = {&backward->columns.order};
  int code = harrier_kernels_success;
  if (kernel->facts->lists) {
    const Grid lists = {by_warp, plan->list_heads, 1};
    code = enqueue(kernels, kernel->transpose_lists, lists, kBuildThreads, 0, transpose, stream, error);
  }
  const Grid warps = {by_warp, heads, 1}, threads = {by_thread, heads, 1};
  if (!code) code = enqueue(kernels, kernel->measure_columns, warps, kBuildThreads, 0, columns, stream, error);
  void* const cut = kernel->facts->turns_of_tile ? kernel->cut_columns : kernel->cut_rows;
  if (!code) code = enqueue(kernels, cut, threads, kBuildThreads, 0, order, stream, error);
  if (!code) code = enqueue(kernels, kernel->order_columns, warps, kBuildThreads, 0, order, stream, error);
  return code;
}

// Adds up the parts of what an order has split, `tile` places each.
static int join_parts(const harrier_kernels* kernels, void* function, const OrderParams* order, int tile,
                      BackwardParams* params, void* stream, harrier_kernels_error* error) {
  enum { kPlacesOfCta = 8 };
  uint64_t split_rows = order->split_rows;
  uint64_t split_count = order->state + offsetof(BuildState, split_count);
  void* parameters[] = {params, &split_rows, &split_count};
  const Grid grid = {order->split_capacity / 2, tile / kPlacesOfCta, 1};
  return enqueue(kernels, function, grid, kBuildThreads, 0, parameters, stream, error);
}

// What kernels add gradients of arrays to.
static int clear_arrays(const harrier_kernels* kernels, const BackwardPlan* backward, void* stream,
                        harrier_kernels_error* error) {
  int code = harrier_kernels_success;
  for (int i = 0; i < kMaxArrays && !code; ++i) {
    if (backward->array_bytes[i] == 0) continue;
    code = check(&kernels->driver,
                 kernels->driver.fill_bytes(backward->params.d_arrays[i], 0, (size_t)backward->array_bytes[i], stream),
                 "clearing gradients of arrays", error);
  }
  return code;
}

static int enqueue_gradients(const harrier_kernels* kernels, LaunchPlan* plan, uint64_t workspace, void* stream,
                             harrier_kernels_error* error) {
  enum { kWarpgroupQueries = 64, kWarpgroupThreads = 128 };
  const LoadedKernel* kernel = plan->kernel;
  const KernelFacts* facts = kernel->facts;
  BackwardPlan* backward = &plan->backward;
  BackwardParams* params = &backward->params;
  const int64_t heads = plan->workload->heads;
  void* parameters[] = {params};
  int code = clear_arrays(kernels, backward, stream, error);
  if (!code) code = build_rows(kernels, plan, workspace, stream, error);
  if (!code && backward->count > 0) code = build_columns(kernels, plan, stream, error);
  const Grid places = {plan->rows, heads, 1};
  if (!code) code = enqueue(kernels, kernel->stats, places, kBuildThreads, 0, parameters, stream, error);
  if (!code && backward->count > 0) {
    const Grid ctas = {smaller(kernel->most_ctas, backward->items), 1, 1};
    code = enqueue(kernels, kernel->columns, ctas, facts->threads, facts->shared_bytes, parameters, stream, error);
  }
  if (!code && facts->maps) {
    const Grid finish = {plan->rows, heads, facts->tile_q / kWarpgroupQueries};
    code = enqueue(kernels, kernel->queries, finish, kWarpgroupThreads, 0, parameters, stream, error);
  } else if (!code && plan->rows > 0) {
    const Grid ctas = {smaller(kernel->most_row_ctas, plan->items), 1, 1};
    code = enqueue(kernels, kernel->rows, ctas, facts->threads, facts->shared_bytes, parameters, stream, error);
  }
  if (!code && backward->learns && backward->count > 0) {
    const Grid ctas = {smaller(kernel->most_array_ctas, backward->items), 1, 1};
    code = enqueue(kernels, kernel->arrays, ctas, facts->arrays_threads, facts->arrays_shared_bytes, parameters, stream,
                   error);
  }
  if (!code) {
    code = join_parts(kernels, kernel->join_columns, &backward->columns.order, facts->tile_k, params, stream, error);
  }
  if (!code && !facts->maps) {
    code = join_parts(kernels, kernel->join_rows, &plan->order, facts->tile_q, params, stream, error);
  }
  return code;
}
