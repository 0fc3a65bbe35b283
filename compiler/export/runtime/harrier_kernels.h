// Attention kernels that Harrier compiled ahead of time. The process needs the CUDA driver and nothing else: libcuda is
// opened when it is asked for ($HARRIER_LIBCUDA names another one).
//
//   harrier_kernels* kernels = NULL;
//   harrier_kernels_error error;
//   if (harrier_kernels_open(0, NULL, &kernels, &error) != 0) fail(error.message);
//   harrier_kernels_workspace(kernels, &call, &call.workspace_bytes, &error);  // then allocate that much
//   harrier_kernels_launch(kernels, &call, stream, &error);                    // as often as wanted
//   harrier_kernels_close(kernels);
//
// Every function that may fail returns a code, 0 for success, and writes one line into `error` (which may be null): the
// value, the limit, the remedy. A set of kernels is immutable once it is open, so several threads may use it at once.
#ifndef HARRIER_KERNELS_H_
#define HARRIER_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum harrier_kernels_code {
  harrier_kernels_success = 0,
  harrier_kernels_invalid_input = 1,  // the caller's: nothing was launched
  harrier_kernels_no_driver = 2,
  harrier_kernels_no_device = 3,
  harrier_kernels_driver_too_old = 4,
  harrier_kernels_unsupported = 5,  // no kernel here is for this GPU
  harrier_kernels_out_of_memory = 6,
  harrier_kernels_bad_image = 7,
  harrier_kernels_launch_failed = 8,
  harrier_kernels_driver_failed = 9
};

typedef struct harrier_kernels_error {
  int code;
  char message[320];
} harrier_kernels_error;

// What may be launched.
enum harrier_kernels_workload {
  // @workloads
  harrier_kernels_workloads  // how many there are
};

// Addresses on the device are what cuMemAlloc gives.
typedef uint64_t harrier_kernels_address;

// One tensor of (batch, token, head, column): elements of the workload's type, columns contiguous, strides in elements.
// The address is a multiple of 16 bytes, strides are multiples of 8 elements. Packed tensors have one batch row of all
// tokens, and a batch_stride of 0 will do.
typedef struct harrier_kernels_tensor {
  harrier_kernels_address data;
  int64_t batch_stride;
  int64_t token_stride;
  int64_t head_stride;
} harrier_kernels_tensor;

// float32 (batch, head, token): the natural logarithm of the softmax's denominator; minus infinity where a query sees
// no key. `data` 0: not wanted.
typedef struct harrier_kernels_lse {
  harrier_kernels_address data;
  int64_t batch_stride;
  int64_t head_stride;
  int64_t token_stride;
} harrier_kernels_lse;

enum harrier_kernels_type {
  harrier_kernels_uint8 = 0,  // bool too
  harrier_kernels_int32 = 1,
  harrier_kernels_int64 = 2,
  harrier_kernels_float32 = 3
};

// An array @name of the pattern on the device, dense and row-major, `rank` of the shape's sizes counting.
typedef struct harrier_kernels_array {
  const char* name;
  harrier_kernels_address data;
  int type;
  int rank;
  int64_t shape[4];
} harrier_kernels_array;

// One launch. Lengths are read on the device when the kernels run, so they may change there from launch to launch; what
// is said here is how many there are at most.
typedef struct harrier_kernels_call {
  int workload;
  int packed;            // 1: sequences one after another, 0: a padded batch of equal extents
  int64_t batch;         // sequences
  int64_t query_tokens;  // packed: tokens of all sequences at most
  int64_t key_tokens;
  int64_t longest_query;  // of a sequence at most (packed: 0 = all tokens); padded: the extent
  int64_t longest_key;
  harrier_kernels_address cu_query;     // packed: int32 [batch + 1], rising from 0
  harrier_kernels_address cu_key;       // packed: 0 = as cu_query
  harrier_kernels_address query_valid;  // padded: int32 [batch], 0 = the extent
  harrier_kernels_address key_valid;
  harrier_kernels_tensor q;    // `heads` heads of `head_dim` columns
  harrier_kernels_tensor k;    // `kv_heads` heads of `head_dim` columns
  harrier_kernels_tensor v;    // `kv_heads` heads of `value_dim` columns
  harrier_kernels_tensor out;  // `heads` heads of `value_dim` columns; written whole, or read by gradients
  harrier_kernels_lse lse;
  const harrier_kernels_array* arrays;  // every array that the pattern names
  int array_count;
  harrier_kernels_address workspace;  // a multiple of 256 bytes; one launch at a time may use it
  size_t workspace_bytes;
} harrier_kernels_call;

// What a launch of gradients reads beside the call's tensors, and what it writes: d_out and d_q are as out and q, d_k
// and d_v as k and v.
typedef struct harrier_kernels_gradients {
  harrier_kernels_tensor d_out;
  harrier_kernels_tensor d_q;
  harrier_kernels_tensor d_k;
  harrier_kernels_tensor d_v;
  // Gradients that are wanted of arrays that scores or the softmax read: float32, each of its array's shape, written
  // whole. The last bits may differ from launch to launch; where gradients are deterministic, none may be wanted.
  const harrier_kernels_array* arrays;
  int array_count;
} harrier_kernels_gradients;

typedef struct harrier_kernels harrier_kernels;

// Opens the driver and loads the kernels for a GPU. `context` is a CUcontext of that GPU, or null for its primary
// context, which is what the CUDA runtime and frameworks use; it must live until the kernels are closed.
int harrier_kernels_open(int ordinal, void* context, harrier_kernels** kernels, harrier_kernels_error* error);

// Unloads the kernels; no launch of theirs may be running. Null is fine.
void harrier_kernels_close(harrier_kernels* kernels);

// How much workspace a call needs. Looks at sizes alone: addresses may still be 0.
int harrier_kernels_workspace(const harrier_kernels* kernels, const harrier_kernels_call* call, size_t* bytes,
                              harrier_kernels_error* error);

// Enqueues on the CUstream `stream`. No allocation, no synchronisation; may be captured in a CUDA graph. What goes
// wrong on the device is seen when the stream is waited for.
int harrier_kernels_launch(const harrier_kernels* kernels, const harrier_kernels_call* call, void* stream,
                           harrier_kernels_error* error);

// The same for a workload with direction backward: gradients of sum(out * d_out), written whole. The call's `out` and
// `lse` are what the forward launch wrote, and are read.
int harrier_kernels_backward(const harrier_kernels* kernels, const harrier_kernels_call* call,
                             const harrier_kernels_gradients* gradients, void* stream, harrier_kernels_error* error);

// Which kernel a call runs: "sm_90a, 128x128 in boxes of 128, ...". Null where the call is refused.
const char* harrier_kernels_choice(const harrier_kernels* kernels, const harrier_kernels_call* call);

// A workload's name, as its .attn file gives it; null past the last one.
const char* harrier_kernels_name(int workload);

#ifdef __cplusplus
}
#endif

#endif  // HARRIER_KERNELS_H_
