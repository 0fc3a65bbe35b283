// kernels/ptx.cuh for the emulated GPU: the same names, no instructions.
#pragma once

#include "codegen/cuda/kernels/types.cuh"

namespace harrier::ptx {

inline uint32 shared_address(const void* pointer) { return harrier_emulated_shared_address(pointer); }

// Transaction barriers in shared memory.

inline void barrier_init(uint32 barrier, uint32 arrivals) { harrier_emulated_barrier_init(barrier, arrivals); }
inline void barrier_init_fence() {}
inline void barrier_expect(uint32 barrier, uint32 bytes) { harrier_emulated_barrier_expect(barrier, bytes); }
inline void barrier_arrive(uint32 barrier) { harrier_emulated_barrier_arrive(barrier); }
inline void barrier_wait(uint32 barrier, uint32 parity) { harrier_emulated_barrier_wait(barrier, parity); }

// Named barriers among warps of one CTA.

inline void named_barrier_sync(int id, int threads) { harrier_emulated_named_barrier(id, threads, true); }
inline void named_barrier_arrive(int id, int threads) { harrier_emulated_named_barrier(id, threads, false); }
inline void warp_sync() { harrier_emulated_meet(0xffffffffu, "bar.warp.sync", 0); }

// Bulk tensor copies.

inline void prefetch_tensor_map(const TensorMap*) {}

enum class L2Policy : uint64 { kEvictFirst = 0x12F0000000000000ull, kEvictLast = 0x14F0000000000000ull };

inline void load_box(uint32 destination, const TensorMap* map, uint32 barrier, int element, int token, int head,
                     int offset, int batch, L2Policy) {
  const int coordinates[] = {element, token, head, offset, batch};
  harrier_emulated_load_box(destination, map, barrier, coordinates, 5);
}

inline void store_box(uint32 source, const TensorMap* map, int element, int token, int head, int offset, int batch) {
  const int coordinates[] = {element, token, head, offset, batch};
  harrier_emulated_store_box(source, map, coordinates, 5);
}

inline void commit_stores() { harrier_emulated_commit_stores(); }
template <int kPending = 0>
inline void wait_stores_read() {
  harrier_emulated_wait_stores_read(kPending);
}
inline void wait_stores() { harrier_emulated_wait_stores(); }

inline void load_bytes(uint32 destination, const void* source, uint32 bytes, uint32 barrier) {
  harrier_emulated_load_bytes(destination, source, bytes, barrier);
}

inline void reduce_add(float* destination, uint32 source, uint32 bytes) {
  harrier_emulated_reduce_add(destination, source, bytes);
}

inline void fence_shared_for_async() {}
inline void fence_global_for_async() {}

// Turns.

inline void wait_for_turn(const uint32* counter, uint32 turn) {
  while (*static_cast<const volatile uint32*>(counter) != turn) __nanosleep(20);
}
inline void pass_turn(uint32* counter) { ++*counter; }
inline void fence_device() {}

// Registers.

template <int kRegisters>
inline void grow_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256, "what setmaxnreg takes");
  warp_sync();
}

template <int kRegisters>
inline void shrink_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256, "what setmaxnreg takes");
  warp_sync();
}

// Warps.

inline int broadcast(int value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
inline float exchange(float value, int lane_mask) { return __shfl_xor_sync(0xffffffffu, value, lane_mask); }

inline void store_matrices(uint32 address, uint32 a, uint32 b, uint32 c, uint32 d) {
  const uint32 registers[] = {a, b, c, d};
  harrier_emulated_store_matrices(address, registers, 4, false);
}

inline void store_matrices_transposed(uint32 address, uint32 a, uint32 b, uint32 c, uint32 d) {
  const uint32 registers[] = {a, b, c, d};
  harrier_emulated_store_matrices(address, registers, 4, true);
}

inline float2 load_pair(uint32 address) {
  float2 pair;
  memcpy(&pair, harrier_emulated_shared_bytes(address, sizeof pair), sizeof pair);
  return pair;
}

inline void store_four(uint32 address, float a, float b, float c, float d) {
  const float values[] = {a, b, c, d};
  memcpy(harrier_emulated_shared_bytes(address, sizeof values), values, sizeof values);
}

inline void load_matrices(uint32 address, uint32 (&registers)[4]) {
  harrier_emulated_load_matrices(address, registers, 4, false);
}

inline void load_matrices_transposed(uint32 address, uint32 (&registers)[4]) {
  harrier_emulated_load_matrices(address, registers, 4, true);
}

template <bool kBFloat16>
inline void mma(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
  const uint32 b[] = {b0, b1};
  harrier_emulated_mma(d, a, b, kBFloat16);
}

inline void copy_async_16(uint32 destination, const void* source, int source_bytes) {
  harrier_emulated_copy_async(destination, source, source_bytes);
}

inline void commit_copies() { harrier_emulated_commit_copies(); }

template <int kPending>
inline void wait_copies() {
  harrier_emulated_wait_copies(kPending);
}

inline void add_four(float* destination, float a, float b, float c, float d) {
  const float values[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) destination[i] += values[i];
}

// Mathematics. Numbers too small for a normal float are zeros.

inline float flushed(float x) { return fabsf(x) < 1.17549435e-38f ? 0.0f * x : x; }
inline float exp2_fast(float x) { return flushed(exp2f(flushed(x))); }
inline float reciprocal_fast(float x) { return flushed(1.0f / flushed(x)); }
inline float log2_fast(float x) { return flushed(log2f(flushed(x))); }
inline float tanh_fast(float x) { return tanhf(x); }

template <bool kBFloat16>
inline uint32 pack(float low, float high) {
  using namespace harrier_emulated;
  if constexpr (kBFloat16) {
    return to_bfloat16(low) | static_cast<uint32>(to_bfloat16(high)) << 16;
  } else {
    return to_float16(low) | static_cast<uint32>(to_float16(high)) << 16;
  }
}

template <bool kBFloat16>
inline float2 unpack(uint32 packed) {
  using harrier_emulated::from_16_bits;
  return {from_16_bits(static_cast<unsigned short>(packed), kBFloat16),
          from_16_bits(static_cast<unsigned short>(packed >> 16), kBFloat16)};
}

inline uint32 bits_from(int count) { return count >= 32 ? 0u : 0xffffffffu << (count <= 0 ? 0 : count); }

}  // namespace harrier::ptx
