#include "harrier_kernels.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "enqueue.h"
#include "gradients.h"
#include "load.h"
#include "tensors.h"

// Which kernel of a target the lengths of a call ask for.
static int choose_kernel(const TreeNode* tree, const harrier_kernels_call* call, int heads) {
  const int64_t place[] = {call->longest_query, call->longest_key, call->batch * heads};
  int node = 0;
  while (tree[node].dimension >= 0) {
    node = place[tree[node].dimension] < tree[node].limit ? tree[node].below : tree[node].above;
  }
  return tree[node].below;
}

static int check_sizes(const harrier_kernels_call* call, harrier_kernels_error* error) {
  const int64_t sizes[] = {call->batch, call->query_tokens, call->key_tokens, call->longest_query, call->longest_key};
  for (int i = 0; i < 5; ++i) {
    if (sizes[i] >= 0 && sizes[i] < INT32_MAX) continue;
    return fail(error, harrier_kernels_invalid_input,
                "a batch or a number of tokens is %lld, expected 0 to 2^31 - 2: split the batch", (long long)sizes[i]);
  }
  const int64_t longest = larger(call->longest_query, call->longest_key);
  if (longest > kLongestSequence) {
    return fail(error, harrier_kernels_invalid_input,
                "the longest sequence has %lld tokens, CUDA kernels take up to %d: split it", (long long)longest,
                kLongestSequence);
  }
  if (call->array_count < 0 || (call->array_count > 0 && call->arrays == NULL)) {
    return fail(error, harrier_kernels_invalid_input, "%d arrays are given, but `arrays` is null: name them",
                call->array_count);
  }
  return harrier_kernels_success;
}

// Everything about a call but its addresses, with the workspace at `base`.
static int plan_launch(const harrier_kernels* kernels, const harrier_kernels_call* given, uint64_t base,
                       LaunchPlan* plan, harrier_kernels_error* error) {
  memset(plan, 0, sizeof *plan);
  if (given->workload < 0 || given->workload >= kExport.workload_count) {
    return fail(error, harrier_kernels_invalid_input, "workload %d is given, there are %d: see harrier_kernels_name",
                given->workload, kExport.workload_count);
  }
  harrier_kernels_call call = *given;
  if (call.packed && call.longest_query == 0) call.longest_query = call.query_tokens;
  if (call.packed && call.longest_key == 0) call.longest_key = call.key_tokens;
  int code = check_sizes(&call, error);
  if (code) return code;
  plan->workload = &kExport.workloads[call.workload];
  const LoadedTarget* target = &kernels->targets[call.workload];
  if (target->facts == NULL) {
    return fail(error, harrier_kernels_unsupported, "no kernel of %.48s here is for %s: export it for this GPU",
                plan->workload->name, kernels->name);
  }
  plan->kernel = &target->kernels[choose_kernel(target->facts->tree, &call, plan->workload->heads)];
  plan->batches = call.packed ? 1 : call.batch;
  plan->query_tokens = call.packed ? call.query_tokens : call.longest_query;
  plan->key_tokens = call.packed ? call.key_tokens : call.longest_key;
  SequenceTable* sequences = &plan->forward.sequences;
  if (call.packed) {
    sequences->cu_query = call.cu_query;
    sequences->cu_key = call.cu_key != 0 ? call.cu_key : call.cu_query;
  } else {
    sequences->query_valid = call.query_valid;
    sequences->key_valid = call.key_valid;
    sequences->query_length = (int)call.longest_query;
    sequences->key_length = (int)call.longest_key;
  }
  code = bind_arrays(&call, plan, error);
  return code ? code : lay_out(kernels, &call, base, plan, error);
}

// Lists, the order of work, the kernel, and the one that joins the parts of split rows.
static int enqueue_all(const harrier_kernels* kernels, LaunchPlan* plan, uint64_t workspace, void* stream,
                       harrier_kernels_error* error) {
  const LoadedKernel* kernel = plan->kernel;
  const KernelFacts* facts = kernel->facts;
  int code = build_rows(kernels, plan, workspace, stream, error);
  void* forward[] = {&plan->forward};
  const Grid ctas = {smaller(kernel->most_ctas, plan->items), 1, 1};
  if (!code) {
    code = enqueue(kernels, kernel->forward, ctas, facts->threads, facts->shared_bytes, forward, stream, error);
  }
  uint64_t split_rows = plan->order.split_rows;
  uint64_t split_count = plan->order.state + offsetof(BuildState, split_count);
  void* combine[] = {&plan->forward, &split_rows, &split_count};
  const Grid joined = {plan->order.split_capacity / 2, facts->tile_q / kCombineQueries, 1};
  if (!code) code = enqueue(kernels, kernel->combine, joined, kCombineThreads, 0, combine, stream, error);
  return code;
}

static int check_workspace(const harrier_kernels* kernels, const harrier_kernels_call* call, const LaunchPlan* plan,
                           harrier_kernels_error* error) {
  enum { kAlignment = 256 };
  if (call->workspace_bytes < (size_t)plan->bytes || call->workspace % kAlignment != 0) {
    return fail(error, harrier_kernels_invalid_input,
                "the workspace has %llu bytes at 0x%llx, needed are %lld at a multiple of %d: ask "
                "harrier_kernels_workspace",
                (unsigned long long)call->workspace_bytes, (unsigned long long)call->workspace, (long long)plan->bytes,
                kAlignment);
  }
  return check_address(kernels, call->workspace, "", "the workspace", 1, error);
}

// `gradients` is null for a forward launch.
static int launch_here(const harrier_kernels* kernels, const harrier_kernels_call* call,
                       const harrier_kernels_gradients* gradients, LaunchPlan* plan, void* stream,
                       harrier_kernels_error* error) {
  int code = check_workspace(kernels, call, plan, error);
  if (gradients != NULL) {
    if (!code) code = set_gradients(kernels, call, gradients, plan, error);
    return code ? code : enqueue_gradients(kernels, plan, call->workspace, stream, error);
  }
  if (!code) code = set_tensors(kernels, call, plan, error);
  return code ? code : enqueue_all(kernels, plan, call->workspace, stream, error);
}

int harrier_kernels_open(int ordinal, void* context, harrier_kernels** opened, harrier_kernels_error* error) {
  *opened = NULL;
  harrier_kernels* kernels = calloc(1, sizeof *kernels);
  if (kernels != NULL) {
    kernels->targets = calloc((size_t)kExport.workload_count + 1, sizeof *kernels->targets);
    kernels->kernels = calloc((size_t)kExport.kernel_count + 1, sizeof *kernels->kernels);
  }
  if (kernels == NULL || kernels->targets == NULL || kernels->kernels == NULL) {
    harrier_kernels_close(kernels);
    return fail(error, harrier_kernels_out_of_memory, "no memory for %d kernels: free some", kExport.kernel_count);
  }
  int capability = 0;
  int code = open_driver(&kernels->driver, error);
  if (!code) code = open_device(kernels, ordinal, &capability, error);
  kernels->context = context;
  if (!code && context == NULL) {
    code = check(&kernels->driver, kernels->driver.context_retain(&kernels->context, kernels->device),
                 "the context of the GPU", error);
    kernels->owns_context = !code;
  }
  int pushed = 0;
  if (!code) code = enter_context(kernels, &pushed, error);
  int loaded = 0;
  for (int i = 0; i < kExport.workload_count && !code; ++i) {
    code = load_workload(kernels, &kExport.workloads[i], capability, &kernels->targets[i], error);
    loaded += !code;
    // What is not for this GPU is said when it is launched, as long as something is.
    if (code == harrier_kernels_unsupported && loaded + kExport.workload_count - i > 1) code = 0;
  }
  leave_context(kernels, pushed);
  if (code) {
    harrier_kernels_close(kernels);
    return code;
  }
  *opened = kernels;
  return succeed(error);
}

void harrier_kernels_close(harrier_kernels* kernels) {
  if (kernels == NULL) return;
  int pushed = 0;
  if (kernels->context != NULL && enter_context(kernels, &pushed, NULL) == 0) {
    for (int i = 0; i < kernels->kernel_count; ++i) unload_kernel(&kernels->driver, &kernels->kernels[i]);
    leave_context(kernels, pushed);
  }
  if (kernels->owns_context) kernels->driver.context_release(kernels->device);
  free(kernels->targets);
  free(kernels->kernels);
  free(kernels);
}

int harrier_kernels_workspace(const harrier_kernels* kernels, const harrier_kernels_call* call, size_t* bytes,
                              harrier_kernels_error* error) {
  LaunchPlan plan;
  const int code = plan_launch(kernels, call, 0, &plan, error);
  *bytes = code ? 0 : (size_t)plan.bytes;
  return code ? code : succeed(error);
}

static int launch_any(const harrier_kernels* kernels, const harrier_kernels_call* call,
                      const harrier_kernels_gradients* gradients, void* stream, harrier_kernels_error* error) {
  LaunchPlan plan;
  int code = plan_launch(kernels, call, call->workspace, &plan, error);
  if (code) return code;
  const int backward = gradients != NULL;
  if (plan.kernel->facts->backward != backward) {
    return fail(error, harrier_kernels_invalid_input, "%.48s has direction %s: call harrier_kernels_%s",
                plan.workload->name, backward ? "forward" : "backward", backward ? "launch" : "backward");
  }
  if (call->packed && call->cu_query == 0) {
    return fail(error, harrier_kernels_invalid_input,
                "a packed batch needs cu_query on the device: batch + 1 offsets of int32");
  }
  const int learns = backward && gradients->array_count != 0;
  if (plan.rows == 0 && plan.backward.count == 0 && !learns) return succeed(error);
  int pushed = 0;
  code = enter_context(kernels, &pushed, error);
  if (code) return code;
  code = launch_here(kernels, call, gradients, &plan, stream, error);
  leave_context(kernels, pushed);
  return code ? code : succeed(error);
}

int harrier_kernels_launch(const harrier_kernels* kernels, const harrier_kernels_call* call, void* stream,
                           harrier_kernels_error* error) {
  return launch_any(kernels, call, NULL, stream, error);
}

int harrier_kernels_backward(const harrier_kernels* kernels, const harrier_kernels_call* call,
                             const harrier_kernels_gradients* gradients, void* stream, harrier_kernels_error* error) {
  if (gradients == NULL) {
    return fail(error, harrier_kernels_invalid_input,
                "`gradients` is null: say where d_out is, and d_q, d_k and d_v go");
  }
  return launch_any(kernels, call, gradients, stream, error);
}

const char* harrier_kernels_choice(const harrier_kernels* kernels, const harrier_kernels_call* call) {
  LaunchPlan plan;
  return plan_launch(kernels, call, 0, &plan, NULL) ? NULL : plan.kernel->facts->description;
}

const char* harrier_kernels_name(int workload) {
  return workload >= 0 && workload < kExport.workload_count ? kExport.workloads[workload].name : NULL;
}
