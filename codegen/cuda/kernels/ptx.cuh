// PTX behind names: barriers, bulk tensor copies, fences, registers, warp exchanges, fast mathematics.
#pragma once

#include "codegen/cuda/kernels/types.cuh"

namespace harrier::ptx {

__device__ __forceinline__ uint32 shared_address(const void* pointer) {
  return static_cast<uint32>(__cvta_generic_to_shared(pointer));
}

// Transaction barriers in shared memory.

__device__ __forceinline__ void barrier_init(uint32 barrier, uint32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// Makes the initialised barriers visible to the copy engine; a CTA barrier must follow.
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Arrives and announces `bytes` that copies will bring.
__device__ __forceinline__ void barrier_expect(uint32 barrier, uint32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Returns once the phase of the given parity has completed.
__device__ __forceinline__ void barrier_wait(uint32 barrier, uint32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "WAIT_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE_%=;\n"
      "bra WAIT_%=;\n"
      "DONE_%=:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// Named barriers among warps of one CTA.

__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void warp_sync() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }

// Bulk tensor copies. Coordinates: element of the head dim, token, head, offset token, batch (see kRaggedTokens).

__device__ __forceinline__ void prefetch_tensor_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// How long a line should stay in L2.
enum class L2Policy : uint64 { kEvictFirst = 0x12F0000000000000ull, kEvictLast = 0x14F0000000000000ull };

__device__ __forceinline__ void load_box(uint32 destination, const TensorMap* map, uint32 barrier, int element,
                                         int token, int head, int offset, int batch, L2Policy policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(element), "r"(token), "r"(head), "r"(offset), "r"(batch),
      "l"(static_cast<uint64>(policy))
      : "memory");
}

__device__ __forceinline__ void store_box(uint32 source, const TensorMap* map, int element, int token, int head,
                                          int offset, int batch) {
  asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5, %6}], [%1];" ::"l"(map),
               "r"(source), "r"(element), "r"(token), "r"(head), "r"(offset), "r"(batch)
               : "memory");
}

// Bulk copies of plain bytes: addresses and sizes are multiples of 16 bytes.

__device__ __forceinline__ void load_bytes(uint32 destination, const void* source, uint32 bytes, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(destination),
      "l"(__cvta_generic_to_global(source)), "r"(bytes), "r"(barrier)
      : "memory");
}

/// Adds fp32 numbers in shared memory to those at `destination`, each one atomically.
__device__ __forceinline__ void reduce_add(float* destination, uint32 source, uint32 bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(
                   __cvta_generic_to_global(destination)),
               "r"(source), "r"(bytes)
               : "memory");
}

/// Closes a group: the stores (and additions) that this thread started since the last one.
__device__ __forceinline__ void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

/// Returns once all but the last `kPending` groups have read their shared memory.
template <int kPending = 0>
__device__ __forceinline__ void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

/// Returns once this thread's groups have written what they had to.
__device__ __forceinline__ void wait_stores() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

/// Orders this thread's writes to shared memory before later reads by the copy engine and wgmma.
__device__ __forceinline__ void fence_shared_for_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Orders what this thread knows of global memory, and its own writes there, before what the copy engine then does.
__device__ __forceinline__ void fence_global_for_async() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

// Turns: counters in global memory, on which threads of several CTAs agree who goes next.

/// Returns once the counter is `turn`; then what was written before it became so is seen.
__device__ __forceinline__ void wait_for_turn(const uint32* counter, uint32 turn) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      ".reg .u32 seen;\n"
      "WAIT_%=:\n"
      "ld.acquire.gpu.global.u32 seen, [%0];\n"
      "setp.eq.u32 done, seen, %1;\n"
      "@done bra DONE_%=;\n"
      "nanosleep.u32 20;\n"
      "bra WAIT_%=;\n"
      "DONE_%=:\n"
      "}" ::"l"(__cvta_generic_to_global(counter)),
      "r"(turn)
      : "memory");
}

/// Counts, after all that this thread has written and seen.
__device__ __forceinline__ void pass_turn(uint32* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(__cvta_generic_to_global(counter)) : "memory");
}

/// Orders this thread's writes before those that follow, for every thread of the GPU.
__device__ __forceinline__ void fence_device() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

// Copies and products of warps, for every GPU from sm_80 on.

/// Starts a copy of 16 bytes to shared memory, both sides 16-byte aligned: the first `source_bytes` (0 to 16) come from
/// `source`, which is not read when that is 0, the others are zeros.
__device__ __forceinline__ void copy_async_16(uint32 destination, const void* source, int source_bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(destination),
               "l"(__cvta_generic_to_global(source)), "r"(source_bytes)
               : "memory");
}

/// Closes a group: the copies that this thread started since the last one.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Returns once at most `kPending` of this thread's groups are unfinished; others see the bytes after a CTA barrier.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Reads four 8 x 8 tiles of 16-bit values; lane l gives the address of row l % 8 of tile l / 8. Of each tile a lane
/// gets columns 2 (l % 4) and the next, of row l / 4.
__device__ __forceinline__ void load_matrices(uint32 address, uint32 (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// The same of the transposed tiles: a lane gets rows 2 (l % 4) and the next, of column l / 4.
__device__ __forceinline__ void load_matrices_transposed(uint32 address, uint32 (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// d += a b: m16n8k16 of 16-bit values with fp32 accumulators.
template <bool kBFloat16>
__device__ __forceinline__ void mma(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
  if constexpr (kBFloat16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Registers.

template <int kRegisters>
__device__ __forceinline__ void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Warps.

__device__ __forceinline__ int broadcast(int value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
__device__ __forceinline__ float exchange(float value, int lane_mask) {
  return __shfl_xor_sync(0xffffffffu, value, lane_mask);
}

/// Writes four 8 x 8 tiles of 16-bit values; lane l gives the address of row l % 8 of tile l / 8.
__device__ __forceinline__ void store_matrices(uint32 address, uint32 a, uint32 b, uint32 c, uint32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b),
               "r"(c), "r"(d)
               : "memory");
}

/// The same of the transposed tiles: a lane gives rows 2 (l % 4) and the next, of column l / 4.
__device__ __forceinline__ void store_matrices_transposed(uint32 address, uint32 a, uint32 b, uint32 c, uint32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b),
               "r"(c), "r"(d)
               : "memory");
}

// Numbers in shared memory, by the addresses that copies take.

__device__ __forceinline__ float2 load_pair(uint32 address) {
  float2 y;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(y.x), "=f"(y.y) : "r"(address));
  return y;
}

__device__ __forceinline__ void store_four(uint32 address, float a, float b, float c, float d) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}

/// Adds four numbers to those at `destination`, each one atomically.
__device__ __forceinline__ void add_four(float* destination, float a, float b, float c, float d) {
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(destination)), "f"(a),
               "f"(b), "f"(c), "f"(d)
               : "memory");
}

// Mathematics.

/// 1 / x but for the last bit, for x that is no subnormal.
__device__ __forceinline__ float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float tanh_fast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Two floats as 16-bit values, `low` in the low half.
template <bool kBFloat16>
__device__ __forceinline__ uint32 pack(float low, float high) {
  uint32 y;
  if constexpr (kBFloat16) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  }
  return y;
}

/// The two 16-bit values of a word as floats.
template <bool kBFloat16>
__device__ __forceinline__ float2 unpack(uint32 packed) {
  if constexpr (kBFloat16) {
    return {__uint_as_float(packed << 16), __uint_as_float(packed & 0xffff0000u)};
  } else {
    float2 y;
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
        : "=f"(y.x), "=f"(y.y)
        : "r"(packed));
    return y;
  }
}

/// All bits but the `count` lowest; none from 32 on, all of them from 0 down. The instruction takes shifts past 31.
__device__ __forceinline__ uint32 bits_from(int count) {
  uint32 bits;
  asm("shl.b32 %0, %1, %2;" : "=r"(bits) : "r"(0xffffffffu), "r"(count < 0 ? 0 : count));
  return bits;
}

}  // namespace harrier::ptx
