// A program that uses exported kernels: C, libcuda, nothing else. It runs a sliding window on two packed sequences and
// checks numbers that are known without computing: the first token of a sequence sees itself alone, so its output is
// its value. Without a GPU it says why and is done.
//
// Device memory comes from the driver, which this program opens for itself; a real one has its own allocator.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harrier_kernels.h"

enum { kTokens = 1000, kHeads = 2, kDim = 64, kElements = kTokens * kHeads * kDim, kSecond = 300 };

// What this program itself needs of the driver.
typedef struct Memory {
  int (*context_set)(void* context);
  int (*context_retain)(void** context, int device);
  int (*allocate)(harrier_kernels_address* address, size_t bytes);
  int (*to_device)(harrier_kernels_address to, const void* from, size_t bytes);
  int (*to_host)(void* to, harrier_kernels_address from, size_t bytes);
  int (*synchronize)(void);
} Memory;

static void must(int ok, const char* what) {
  if (ok) return;
  fprintf(stderr, "exported_window: %s failed\n", what);
  exit(1);
}

static void find(void* library, const char* symbol, void* function) {
  void* found = dlsym(library, symbol);
  must(found != NULL, symbol);
  memcpy(function, &found, sizeof found);
}

static Memory open_memory(void) {
  const char* wanted = getenv("HARRIER_LIBCUDA");
  void* library = dlopen(wanted != NULL ? wanted : "libcuda.so.1", RTLD_NOW);
  must(library != NULL, "opening libcuda");
  Memory memory;
  find(library, "cuCtxSetCurrent", &memory.context_set);
  find(library, "cuDevicePrimaryCtxRetain", &memory.context_retain);
  find(library, "cuMemAlloc_v2", &memory.allocate);
  find(library, "cuMemcpyHtoD_v2", &memory.to_device);
  find(library, "cuMemcpyDtoH_v2", &memory.to_host);
  find(library, "cuCtxSynchronize", &memory.synchronize);
  return memory;
}

static harrier_kernels_address upload(const Memory* memory, const void* data, size_t bytes) {
  harrier_kernels_address address = 0;
  must(memory->allocate(&address, bytes) == 0, "allocating device memory");
  if (data != NULL) must(memory->to_device(address, data, bytes) == 0, "copying to the device");
  return address;
}

static harrier_kernels_tensor tensor_of(harrier_kernels_address data) {
  const harrier_kernels_tensor tensor = {data, 0, kHeads * kDim, kDim};
  return tensor;
}

static int run(const harrier_kernels* kernels) {
  static uint16_t values[kElements];
  static uint16_t out[kElements];
  const int32_t offsets[] = {0, kSecond, kTokens};
  // bfloat16 numbers between 0.5 and 2, of either sign.
  for (int i = 0; i < kElements; ++i) values[i] = (uint16_t)(0x3f00 + i * 37 % 256 + (i % 3 == 0 ? 0x8000 : 0));

  const Memory memory = open_memory();
  void* context = NULL;
  must(memory.context_retain(&context, 0) == 0 && memory.context_set(context) == 0, "making the GPU current");
  harrier_kernels_call call;
  memset(&call, 0, sizeof call);
  call.workload = harrier_kernels_workload_exported_window;
  call.packed = 1;
  call.batch = 2;
  call.query_tokens = kTokens;
  call.key_tokens = kTokens;
  call.cu_query = upload(&memory, offsets, sizeof offsets);
  call.q = tensor_of(upload(&memory, values, sizeof values));
  call.k = tensor_of(upload(&memory, values, sizeof values));
  call.v = tensor_of(upload(&memory, values, sizeof values));
  call.out = tensor_of(upload(&memory, out, sizeof out));
  harrier_kernels_error error;
  if (harrier_kernels_workspace(kernels, &call, &call.workspace_bytes, &error) != 0 ||
      (call.workspace = upload(&memory, NULL, call.workspace_bytes), 0) ||
      harrier_kernels_launch(kernels, &call, NULL, &error) != 0) {
    fprintf(stderr, "exported_window: %s\n", error.message);
    return 1;
  }
  must(memory.synchronize() == 0, "waiting for the GPU");
  must(memory.to_host(out, call.out.data, sizeof out) == 0, "copying from the device");

  const int first_tokens[] = {0, kSecond};
  for (int s = 0; s < 2; ++s) {
    const size_t at = (size_t)first_tokens[s] * kHeads * kDim;
    if (memcmp(out + at, values + at, kHeads * kDim * sizeof *out) == 0) continue;
    fprintf(stderr, "exported_window: token %d is wrong\n", first_tokens[s]);
    return 1;
  }
  printf("%s: right\n", harrier_kernels_choice(kernels, &call));
  return 0;
}

int main(void) {
  harrier_kernels* kernels = NULL;
  harrier_kernels_error error;
  const int code = harrier_kernels_open(0, NULL, &kernels, &error);
  if (code == harrier_kernels_no_driver || code == harrier_kernels_no_device) {
    printf("nothing to run on: %s\n", error.message);
    return 0;
  }
  if (code != 0) {
    fprintf(stderr, "exported_window: %s\n", error.message);
    return 1;
  }
  const int result = run(kernels);
  harrier_kernels_close(kernels);
  return result;
}
