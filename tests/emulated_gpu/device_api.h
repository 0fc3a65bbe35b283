// What emulated kernels call: the emulator's functions, by C names so that a kernel's library finds them in this one.
#pragma once

namespace harrier_emulated {

struct Dim {
  unsigned x;
  unsigned y;
  unsigned z;
};

inline constexpr int kMaxParameters = 32;

/// What cuModuleGetFunction finds beside a kernel's entry.
struct KernelFacts {
  int parameters;
  unsigned sizes[kMaxParameters];
  int max_threads;  // as the launch bounds say
  int min_ctas;
};

}  // namespace harrier_emulated

extern "C" {

// The running thread's place; the scheduler sets them.
extern harrier_emulated::Dim threadIdx;
extern harrier_emulated::Dim blockIdx;
extern harrier_emulated::Dim blockDim;
extern harrier_emulated::Dim gridDim;

/// The CTA's dynamic shared memory, and the 32-bit address of a byte of it.
unsigned char* harrier_emulated_shared_memory();
unsigned harrier_emulated_shared_address(const void* pointer);
void* harrier_emulated_shared_pointer(unsigned address);
/// The same for `bytes` that an instruction reads or writes, a power of two and aligned as such.
void* harrier_emulated_shared_bytes(unsigned address, unsigned bytes);

/// Ends the launch as a device's trap does.
void harrier_emulated_trap(const char* message);
/// Lets other threads run.
void harrier_emulated_yield();
long long harrier_emulated_clock();

/// Waits for the lanes in `mask`; returns what all lanes gave, valid until the caller's next meeting of the same mask.
const unsigned long long* harrier_emulated_meet(unsigned mask, const char* name, unsigned long long value);

/// Barrier of the CTA's live threads. Returns how many gave a predicate that holds.
unsigned harrier_emulated_sync_threads(const char* name, int predicate);
void harrier_emulated_named_barrier(int id, int threads, bool wait);

void harrier_emulated_barrier_init(unsigned barrier, unsigned arrivals);
void harrier_emulated_barrier_expect(unsigned barrier, unsigned bytes);
void harrier_emulated_barrier_arrive(unsigned barrier);
void harrier_emulated_barrier_wait(unsigned barrier, unsigned parity);

void harrier_emulated_load_box(unsigned destination, const void* map, unsigned barrier, const int* coordinates,
                               int rank);
void harrier_emulated_store_box(unsigned source, const void* map, const int* coordinates, int rank);
void harrier_emulated_commit_stores();
void harrier_emulated_wait_stores_read(int pending);
void harrier_emulated_wait_stores();
void harrier_emulated_load_bytes(unsigned destination, const void* source, unsigned bytes, unsigned barrier);
void harrier_emulated_reduce_add(float* destination, unsigned source, unsigned bytes);

void harrier_emulated_copy_async(unsigned destination, const void* source, int source_bytes);
void harrier_emulated_commit_copies();
void harrier_emulated_wait_copies(int pending);

void harrier_emulated_load_matrices(unsigned address, unsigned* registers, int count, bool transposed);
void harrier_emulated_store_matrices(unsigned address, const unsigned* registers, int count, bool transposed);
void harrier_emulated_mma(float* d, const unsigned* a, const unsigned* b, bool bfloat16);

void harrier_emulated_product_shared(float* d, int n, bool bfloat16, unsigned long long a, unsigned long long b,
                                     bool b_n_major, bool accumulate);
void harrier_emulated_product_register(float* d, int n, bool bfloat16, const unsigned* a, unsigned long long b,
                                       bool accumulate);
void harrier_emulated_commit_products();
void harrier_emulated_wait_products(int pending);

}  // extern "C"
