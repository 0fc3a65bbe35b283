// The arrays of a pattern: looked up by name, shapes and types checked, strides made.
#pragma once

#include "launch_plan.h"

enum { kAnySize = -1, kMaxRank = 4 };

// The sizes that a dimension may have: `size`, or 1 where it may broadcast; kAnySize: any.
typedef struct AllowedSize {
  int64_t size;
  int broadcasts;
} AllowedSize;

static const char* name_of_type(int type) {
  static const char* const kNames[] = {"uint8", "int32", "int64", "float32"};
  return type >= 0 && type <= harrier_kernels_float32 ? kNames[type] : "an unknown type";
}

static const harrier_kernels_array* find_array(const harrier_kernels_call* call, const char* name) {
  for (int i = 0; i < call->array_count; ++i) {
    if (call->arrays[i].name != NULL && strcmp(call->arrays[i].name, name) == 0) return &call->arrays[i];
  }
  return NULL;
}

// Checks a shape of `rank` dimensions against what is allowed; leading ones of 1 may be left out. Writes the whole
// shape.
static int check_shape(const harrier_kernels_array* array, const AllowedSize* allowed, int rank, int64_t* shape,
                       harrier_kernels_error* error) {
  int fits = array->rank >= 0 && array->rank <= rank;
  for (int i = 0; fits && i < rank; ++i) {
    const int given = i - (rank - array->rank);
    shape[i] = given < 0 ? 1 : array->shape[given];
    const AllowedSize* size = &allowed[i];
    fits = shape[i] >= 0 && (size->size == kAnySize || shape[i] == size->size || (size->broadcasts && shape[i] == 1));
  }
  if (fits) return harrier_kernels_success;
  if (array->rank < 0 || array->rank > kMaxRank) {
    return fail(error, harrier_kernels_invalid_input, "@%.48s has rank %d, expected 0 to %d: reshape it", array->name,
                array->rank, kMaxRank);
  }
  char have[96] = "";
  char expected[96] = "";
  for (int i = 0; i < rank; ++i) {
    char number[24] = "any";
    if (allowed[i].size != kAnySize) snprintf(number, sizeof number, "%lld", (long long)allowed[i].size);
    snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%s", i == 0 ? "" : ", ", number);
  }
  for (int i = 0; i < array->rank; ++i) {
    snprintf(have + strlen(have), sizeof have - strlen(have), "%s%lld", i == 0 ? "" : ", ", (long long)array->shape[i]);
  }
  return fail(error, harrier_kernels_invalid_input,
              "@%.48s has shape [%s] on the device; expected [%s] (leading ones may be 1 or left out)", array->name,
              have, expected);
}

static int check_type(const harrier_kernels_array* array, int type, int other, harrier_kernels_error* error) {
  if (array->type == type || array->type == other) return harrier_kernels_success;
  return fail(error, harrier_kernels_invalid_input,
              "@%.48s has elements of %s on the device, expected %s: convert it there", array->name,
              name_of_type(array->type), name_of_type(type));
}

static const harrier_kernels_array* need_array(const harrier_kernels_call* call, const char* name,
                                               harrier_kernels_error* error) {
  const harrier_kernels_array* array = find_array(call, name);
  if (array == NULL) {
    fail(error, harrier_kernels_invalid_input, "array @%.48s of the pattern is not bound; bind it", name);
  }
  return array;
}

// Row-major strides, 0 where a dimension is 1.
static void set_strides(const int64_t* shape, int rank, int64_t* strides) {
  int64_t stride = 1;
  for (int i = rank; i-- > 0;) {
    strides[i] = shape[i] == 1 ? 0 : stride;
    stride *= shape[i];
  }
}

static int bind_array(const harrier_kernels_call* call, const ArrayFacts* facts, LaunchPlan* plan, DeviceArray* bound,
                      harrier_kernels_error* error) {
  const harrier_kernels_array* array = need_array(call, facts->name, error);
  if (array == NULL) return harrier_kernels_invalid_input;
  const AllowedSize batch = {call->batch, 1};
  const AllowedSize heads = {plan->workload->heads, 1};
  const AllowedSize queries = {call->longest_query, 0};
  const AllowedSize keys = {call->longest_key, 0};
  AllowedSize allowed[kMaxRank] = {batch, heads, queries, keys};
  int rank = kMaxRank;
  int type = harrier_kernels_float32;
  if (facts->role == kBitsArray) {
    type = harrier_kernels_uint8;
    allowed[3].size = divide_up(call->longest_key, 8);
  } else if (facts->role == kSegmentArray) {
    rank = 1;
    type = harrier_kernels_int32;
    allowed[0].size = plan->key_tokens * (call->packed ? 1 : call->batch);
    allowed[0].broadcasts = 0;
  } else if (facts->role == kPerHeadArray) {
    rank = 1;
    allowed[0].size = plan->workload->heads;
    allowed[0].broadcasts = 0;
  }
  int64_t shape[kMaxRank];
  const int wrong = check_type(array, type, type, error);
  if (wrong) return wrong;
  const int misshapen = check_shape(array, allowed, rank, shape, error);
  if (misshapen) return misshapen;
  bound->data = array->data;
  set_strides(shape, rank, bound->strides);
  return harrier_kernels_success;
}

static int check_blocks(const char* name, int64_t have, int64_t needed, const char* what,
                        harrier_kernels_error* error) {
  if (have >= needed) return harrier_kernels_success;
  return fail(error, harrier_kernels_invalid_input,
              "@%.48s has %lld %s, the longest sequence needs %lld: bind a larger one", name, (long long)have, what,
              (long long)needed);
}

static int bytes_of(int type) { return type == harrier_kernels_uint8 ? 1 : type == harrier_kernels_int64 ? 8 : 4; }

static int bind_dense(const harrier_kernels_call* call, const TableFacts* facts, LaunchPlan* plan, BlockTable* table,
                      harrier_kernels_error* error) {
  const harrier_kernels_array* array = need_array(call, facts->data, error);
  if (array == NULL) return harrier_kernels_invalid_input;
  const AllowedSize allowed[] = {{call->batch, 1}, {plan->workload->heads, 1}, {kAnySize, 0}, {kAnySize, 0}};
  int64_t shape[kMaxRank];
  const int is_integer = array->type >= harrier_kernels_uint8 && array->type <= harrier_kernels_int64;
  int code = is_integer ? 0 : check_type(array, harrier_kernels_uint8, harrier_kernels_uint8, error);
  if (!code) code = check_shape(array, allowed, 4, shape, error);
  if (!code) {
    code = check_blocks(facts->data, shape[2], divide_up(call->longest_query, facts->block), "row blocks", error);
  }
  if (!code) {
    code = check_blocks(facts->data, shape[3], divide_up(call->longest_key, facts->block), "key blocks", error);
  }
  if (code) return code;
  table->data = array->data;
  table->element_bytes = bytes_of(array->type);
  table->batch_stride = shape[0] == 1 ? 0 : shape[1] * shape[2] * shape[3];
  table->head_stride = shape[1] == 1 ? 0 : shape[2] * shape[3];
  table->row_stride = shape[3];
  plan->named_pairs = shape[0] * shape[1] * shape[2] * shape[3];
  return harrier_kernels_success;
}

static int bind_lists(const harrier_kernels_call* call, const TableFacts* facts, LaunchPlan* plan, BlockTable* table,
                      harrier_kernels_error* error) {
  const harrier_kernels_array* offsets = need_array(call, facts->offsets, error);
  if (offsets == NULL) return harrier_kernels_invalid_input;
  const harrier_kernels_array* indices = need_array(call, facts->data, error);
  if (indices == NULL) return harrier_kernels_invalid_input;
  const AllowedSize allowed[] = {{plan->workload->heads, 1}, {kAnySize, 0}};
  const AllowedSize any = {kAnySize, 0};
  int64_t shape[kMaxRank];
  int64_t entries = 0;
  int code = check_type(offsets, harrier_kernels_int32, harrier_kernels_int64, error);
  if (!code) code = check_type(indices, harrier_kernels_int32, harrier_kernels_int64, error);
  if (!code) code = check_shape(offsets, allowed, 2, shape, error);
  if (!code) code = check_shape(indices, &any, 1, &entries, error);
  if (!code) {
    code = check_blocks(facts->offsets, shape[1], divide_up(call->longest_query, facts->block) + 1, "offsets", error);
  }
  if (code) return code;
  table->data = indices->data;
  table->offsets = offsets->data;
  table->element_bytes = bytes_of(indices->type);
  table->offset_bytes = bytes_of(offsets->type);
  table->head_stride = shape[0] == 1 ? 0 : shape[1];
  table->row_stride = 1;
  plan->named_pairs = entries;
  return harrier_kernels_success;
}

static int bind_bigbird(const harrier_kernels_call* call, const TableFacts* facts, LaunchPlan* plan, BlockTable* table,
                        harrier_kernels_error* error) {
  const int64_t rows = divide_up(call->longest_query, facts->block);
  int64_t table_heads = 1;
  table->row_stride = facts->random;
  table->element_bytes = 4;
  if (facts->data != NULL) {
    const harrier_kernels_array* array = need_array(call, facts->data, error);
    if (array == NULL) return harrier_kernels_invalid_input;
    const AllowedSize allowed[] = {{plan->workload->heads, 1}, {kAnySize, 0}, {facts->random, 0}};
    int64_t shape[kMaxRank];
    int code = check_type(array, harrier_kernels_int32, harrier_kernels_int64, error);
    if (!code) code = check_shape(array, allowed, 3, shape, error);
    if (!code) code = check_blocks(facts->data, shape[1], rows - 2, "row blocks", error);
    if (code) return code;
    table->data = array->data;
    table->element_bytes = bytes_of(array->type);
    table_heads = shape[0];
    table->head_stride = shape[0] == 1 ? 0 : shape[1] * shape[2];
  }
  const int64_t key_blocks = divide_up(call->longest_key, facts->block);
  plan->named_pairs = table_heads * (rows * (5 + facts->random) + 2 * key_blocks);
  return harrier_kernels_success;
}

static int is_named(const WorkloadFacts* workload, const char* name) {
  for (int i = 0; i < workload->array_count; ++i) {
    if (strcmp(workload->arrays[i].name, name) == 0) return 1;
  }
  const TableFacts* table = &workload->table;
  return (table->data != NULL && strcmp(table->data, name) == 0) ||
         (table->offsets != NULL && strcmp(table->offsets, name) == 0);
}

// Every array of the pattern into the plan's arguments and table.
static int bind_arrays(const harrier_kernels_call* call, LaunchPlan* plan, harrier_kernels_error* error) {
  const WorkloadFacts* workload = plan->workload;
  for (int i = 0; i < call->array_count; ++i) {
    const char* name = call->arrays[i].name;
    if (name != NULL && is_named(workload, name)) continue;
    return fail(error, harrier_kernels_invalid_input,
                "array @%.48s is bound, but the pattern names no such array; leave it out", name != NULL ? name : "");
  }
  PatternArguments* arguments = &plan->forward.arguments;
  memcpy(arguments->integers, workload->integers, sizeof arguments->integers);
  memcpy(arguments->floats, workload->float_bits, sizeof arguments->floats);
  for (int i = 0; i < workload->array_count; ++i) {
    const int code = bind_array(call, &workload->arrays[i], plan, &arguments->arrays[i], error);
    if (code) return code;
  }
  BlockTable* table = &plan->lists.table;
  const TableFacts* facts = &workload->table;
  table->kind = facts->kind;
  table->block = facts->block;
  table->random = facts->random;
  table->counted = facts->counted;
  if (facts->kind == kDenseTable) return bind_dense(call, facts, plan, table, error);
  if (facts->kind == kListTable) return bind_lists(call, facts, plan, table, error);
  if (facts->kind == kBigBirdTable) return bind_bigbird(call, facts, plan, table, error);
  return harrier_kernels_success;
}
