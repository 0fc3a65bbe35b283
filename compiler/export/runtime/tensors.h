// q, k, v and out: checked, and described to kernels.
#pragma once

#include "workspace.h"

typedef struct NamedTensor {
  const char* name;
  const harrier_kernels_tensor* tensor;
  int64_t heads;
  int64_t columns;
  int64_t tokens;  // of one batch row
} NamedTensor;

// `prefix` and `what` name it.
static int check_address(const harrier_kernels* kernels, harrier_kernels_address address, const char* prefix,
                         const char* what, int element_bytes, harrier_kernels_error* error) {
  unsigned type = 0;
  int ordinal = -1;
  const Driver* driver = &kernels->driver;
  const int known = driver->pointer_attribute(&type, kPointerMemoryType, address);
  // Memory that the driver does not know is an invalid value; anything else is not the pointer's fault.
  if (known != kCudaSuccess && known != kCudaInvalidValue) return check(driver, known, what, error);
  if (known == kCudaInvalidValue || type != kMemoryTypeDevice) {
    return fail(error, harrier_kernels_invalid_input, "%s%.48s at 0x%llx is not device memory: copy it to GPU %d first",
                prefix, what, (unsigned long long)address, kernels->ordinal);
  }
  const int code = check(driver, driver->pointer_attribute(&ordinal, kPointerDeviceOrdinal, address), what, error);
  if (code) return code;
  if (ordinal != kernels->ordinal) {
    return fail(error, harrier_kernels_invalid_input,
                "%s%.48s lies on GPU %d, the kernel is for GPU %d: move one of them", prefix, what, ordinal,
                kernels->ordinal);
  }
  if (address % (unsigned)element_bytes == 0) return harrier_kernels_success;
  return fail(error, harrier_kernels_invalid_input,
              "%s%.48s starts at 0x%llx, its elements have %d bytes and need a multiple of that: copy it", prefix, what,
              (unsigned long long)address, element_bytes);
}

static int check_tensor(const harrier_kernels* kernels, const NamedTensor* named, harrier_kernels_error* error) {
  enum { kCopyElements = 8, kAlignment = 16 };
  const harrier_kernels_tensor* tensor = named->tensor;
  const int64_t strides[] = {tensor->batch_stride, tensor->token_stride, tensor->head_stride};
  for (int i = 0; i < 3; ++i) {
    if (strides[i] >= 0 && strides[i] % kCopyElements == 0) continue;
    return fail(error, harrier_kernels_invalid_input,
                "%s has a stride of %lld elements, kernels copy %d at a time: copy it to a tensor whose strides are "
                "multiples of %d",
                named->name, (long long)strides[i], kCopyElements, kCopyElements);
  }
  if (tensor->data % kAlignment != 0) {
    return fail(error, harrier_kernels_invalid_input, "%s starts at 0x%llx, kernels need a multiple of %d: copy it",
                named->name, (unsigned long long)tensor->data, kAlignment);
  }
  return named->tokens > 0 ? check_address(kernels, tensor->data, "", named->name, 1, error) : harrier_kernels_success;
}

static TensorRows rows_of(const NamedTensor* named) {
  const TensorRows rows = {named->tensor->data, named->tensor->batch_stride, named->tensor->token_stride,
                           named->tensor->head_stride, (int32_t)named->columns};
  return rows;
}

// A ragged map: the base lies 2^kRaggedLog2 tokens early, so that what is past a sequence's end is out of bounds.
static int encode_map(const harrier_kernels* kernels, const LaunchPlan* plan, const NamedTensor* named,
                      uint32_t box_rows, TensorMap* map, harrier_kernels_error* error) {
  enum { kElementBytes = 2, kAlignment = 16 };
  const int64_t limit = (int64_t)1 << 40;
  const harrier_kernels_tensor* tensor = named->tensor;
  // A dimension of one place needs a stride all the same.
  const int64_t bytes[] = {tensor->token_stride * kElementBytes,
                           named->heads > 1 ? tensor->head_stride * kElementBytes : kAlignment,
                           plan->batches > 1 ? tensor->batch_stride * kElementBytes : kAlignment};
  static const char* const kWhich[] = {"token to token", "head to head", "batch row to batch row"};
  for (int i = 0; i < 3; ++i) {
    if (bytes[i] % kAlignment == 0 && bytes[i] < limit) continue;
    return fail(error, harrier_kernels_invalid_input,
                "%s: its stride from %s is %lld bytes, the copy engine takes multiples of %d below 2^40: copy it to a "
                "dense tensor whose head dim is a multiple of 8",
                named->name, kWhich[i], (long long)bytes[i], kAlignment);
  }
  if ((uint64_t)bytes[0] > tensor->data >> kRaggedLog2) {
    return fail(error, harrier_kernels_invalid_input,
                "%s: its stride from token to token is %lld bytes, at 0x%llx the copy engine takes up to %lld: copy it "
                "to a dense tensor",
                named->name, (long long)bytes[0], (unsigned long long)tensor->data,
                (long long)(tensor->data >> kRaggedLog2));
  }
  const uint32_t columns = padded_dim(named->columns) % 64 == 0 ? 64 : 32;
  const uint64_t dimensions[] = {(uint64_t)named->columns, (uint64_t)1 << kRaggedLog2, (uint64_t)named->heads,
                                 (uint64_t)named->tokens + 1, (uint64_t)larger(plan->batches, 1)};
  const uint64_t strides[] = {(uint64_t)bytes[0], (uint64_t)bytes[1], (uint64_t)bytes[0], (uint64_t)bytes[2]};
  const uint32_t box[] = {columns, box_rows, 1, 1, 1};
  const uint32_t steps[] = {1, 1, 1, 1, 1};
  const uint64_t base = tensor->data - ((uint64_t)bytes[0] << kRaggedLog2);
  return check(&kernels->driver,
               kernels->driver.tensor_map_encode(map, plan->workload->bfloat16 ? kTensorMapBFloat16 : kTensorMapFloat16,
                                                 5, (void*)(uintptr_t)base, dimensions, strides, box, steps, 0,
                                                 columns == 64 ? kTensorMapSwizzle128 : kTensorMapSwizzle64,
                                                 kTensorMapPromote256, 0),
               "describing a tensor to the copy engine", error);
}

static int check_lengths_and_arrays(const harrier_kernels* kernels, const harrier_kernels_call* call,
                                    harrier_kernels_error* error) {
  const harrier_kernels_address lengths[] = {call->cu_query, call->cu_key, call->query_valid, call->key_valid};
  int code = harrier_kernels_success;
  for (int i = 0; i < 4 && !code; ++i) {
    if (lengths[i] == 0) continue;
    code = check_address(kernels, lengths[i], "", "an array of lengths", sizeof(int32_t), error);
  }
  for (int i = 0; i < call->array_count && !code; ++i) {
    const harrier_kernels_array* array = &call->arrays[i];
    code = check_address(kernels, array->data, "@", array->name, bytes_of(array->type), error);
  }
  return code;
}

// Checks all addresses of a call and puts its tensors into the plan.
static int set_tensors(const harrier_kernels* kernels, const harrier_kernels_call* call, LaunchPlan* plan,
                       harrier_kernels_error* error) {
  enum { kOutputBoxRows = 64 };
  const WorkloadFacts* workload = plan->workload;
  const KernelFacts* facts = plan->kernel->facts;
  const NamedTensor q = {"q", &call->q, workload->heads, workload->head_dim, plan->query_tokens};
  const NamedTensor k = {"k", &call->k, workload->kv_heads, workload->head_dim, plan->key_tokens};
  const NamedTensor v = {"v", &call->v, workload->kv_heads, workload->value_dim, plan->key_tokens};
  const NamedTensor out = {"out", &call->out, workload->heads, workload->value_dim, plan->query_tokens};
  const NamedTensor* const all[] = {&q, &k, &v, &out};
  int code = 0;
  for (int i = 0; i < 4 && !code; ++i) code = check_tensor(kernels, all[i], error);
  if (!code) code = check_lengths_and_arrays(kernels, call, error);
  if (!code && call->lse.data != 0) code = check_address(kernels, call->lse.data, "", "lse", sizeof(float), error);
  if (code) return code;

  ForwardParams* forward = &plan->forward;
  forward->query_rows = rows_of(&q);
  forward->key_rows = rows_of(&k);
  forward->value_rows = rows_of(&v);
  forward->output_rows = rows_of(&out);
  forward->lse = call->lse.data;
  forward->lse_batch_stride = call->lse.batch_stride;
  forward->lse_head_stride = call->lse.head_stride;
  forward->lse_token_stride = call->lse.token_stride;
  memcpy(&forward->score_scale, &facts->score_scale_bits, sizeof forward->score_scale);
  memcpy(&forward->padding_score, &workload->padding_score_bits, sizeof forward->padding_score);
  if (!facts->maps || plan->query_tokens == 0) return harrier_kernels_success;
  code = encode_map(kernels, plan, &q, (uint32_t)facts->tile_q, &forward->query, error);
  if (!code) code = encode_map(kernels, plan, &out, kOutputBoxRows, &forward->output, error);
  // Without keys nothing is brought, but the kernel prefetches its maps: they have to be some.
  forward->key = forward->query;
  forward->value = forward->query;
  if (plan->key_tokens == 0) return code;
  if (!code) code = encode_map(kernels, plan, &k, (uint32_t)facts->box_rows, &forward->key, error);
  if (!code) code = encode_map(kernels, plan, &v, (uint32_t)facts->box_rows, &forward->value, error);
  return code;
}
