// The language of CUDA for the host's compiler: included before every kernel source.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "device_api.h"
#include "number_formats.h"

#define __device__
#define __host__
#define __constant__
#define __global__
#define __grid_constant__
#define __shared__ static  // CTAs run one after the other; dynamic shared memory is rewritten before it comes here
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict

inline constexpr int warpSize = 32;

#define HARRIER_VECTOR(Type, Element)                                                  \
  struct Type##2 { Element x, y; };                                                    \
  struct Type##3 { Element x, y, z; };                                                 \
  struct Type##4 { Element x, y, z, w; };                                              \
  inline Type##2 make_##Type##2(Element x, Element y) { return {x, y}; }               \
  inline Type##3 make_##Type##3(Element x, Element y, Element z) { return {x, y, z}; } \
  inline Type##4 make_##Type##4(Element x, Element y, Element z, Element w) { return {x, y, z, w}; }
HARRIER_VECTOR(float, float)
HARRIER_VECTOR(int, int)
HARRIER_VECTOR(uint, unsigned)
HARRIER_VECTOR(short, short)
HARRIER_VECTOR(ushort, unsigned short)
HARRIER_VECTOR(char, signed char)
HARRIER_VECTOR(uchar, unsigned char)
HARRIER_VECTOR(longlong, long long)
HARRIER_VECTOR(ulonglong, unsigned long long)
#undef HARRIER_VECTOR
using dim3 = uint3;

// Memory. One thread runs at a time, so atomics are plain.

template <class Type>
inline Type __ldg(const Type* pointer) {
  return *pointer;
}
template <class Type>
inline Type atomicExch(Type* place, Type value) {
  const Type old = *place;
  *place = value;
  return old;
}
template <class Type, class Value>
inline Type atomicAdd(Type* place, Value value) {
  return atomicExch(place, static_cast<Type>(*place + value));
}
template <class Type, class Value>
inline Type atomicSub(Type* place, Value value) {
  return atomicExch(place, static_cast<Type>(*place - value));
}
template <class Type, class Value>
inline Type atomicMax(Type* place, Value value) {
  return atomicExch(place, *place > static_cast<Type>(value) ? *place : static_cast<Type>(value));
}
template <class Type, class Value>
inline Type atomicMin(Type* place, Value value) {
  return atomicExch(place, *place < static_cast<Type>(value) ? *place : static_cast<Type>(value));
}
template <class Type, class Value>
inline Type atomicAnd(Type* place, Value value) {
  return atomicExch(place, static_cast<Type>(*place & value));
}
template <class Type, class Value>
inline Type atomicOr(Type* place, Value value) {
  return atomicExch(place, static_cast<Type>(*place | value));
}
template <class Type, class Value>
inline Type atomicXor(Type* place, Value value) {
  return atomicExch(place, static_cast<Type>(*place ^ value));
}
template <class Type, class Expected, class Value>
inline Type atomicCAS(Type* place, Expected expected, Value value) {
  return *place == static_cast<Type>(expected) ? atomicExch(place, static_cast<Type>(value)) : *place;
}

inline size_t __cvta_generic_to_shared(const void* pointer) { return harrier_emulated_shared_address(pointer); }
inline void* __cvta_shared_to_generic(size_t address) {
  return harrier_emulated_shared_pointer(static_cast<unsigned>(address));
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

inline void __nanosleep(unsigned) { harrier_emulated_yield(); }
inline void __trap() { harrier_emulated_trap("__trap"); }
inline long long clock64() { return harrier_emulated_clock(); }
inline int clock() { return static_cast<int>(harrier_emulated_clock()); }

// CTA and warps.

inline void __syncthreads() { harrier_emulated_sync_threads("__syncthreads", 0); }
inline int __syncthreads_count(int predicate) {
  return static_cast<int>(harrier_emulated_sync_threads("__syncthreads_count", predicate != 0));
}
inline int __syncthreads_or(int predicate) {
  return harrier_emulated_sync_threads("__syncthreads_or", predicate != 0) != 0;
}
/// Every thread agrees when none gives the opposite.
inline int __syncthreads_and(int predicate) {
  return harrier_emulated_sync_threads("__syncthreads_and", predicate == 0) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu) { harrier_emulated_meet(mask, "__syncwarp", 0); }
inline unsigned __activemask() { return 0xffffffffu; }

namespace harrier_emulated {

inline int lane() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31);
}

template <class Type>
inline unsigned long long to_word(Type value) {
  static_assert(sizeof(Type) <= 8, "a lane gives at most 8 bytes");
  unsigned long long word = 0;
  __builtin_memcpy(&word, &value, sizeof value);
  return word;
}

template <class Type>
inline Type from_word(unsigned long long word) {
  Type value;
  __builtin_memcpy(&value, &word, sizeof value);
  return value;
}

/// What `source` gave, where that lane is in this lane's segment and takes part; else the lane's own value.
template <class Type>
inline Type shuffle(unsigned mask, const char* name, Type value, int source, int width) {
  const unsigned long long* values = harrier_emulated_meet(mask, name, to_word(value));
  const bool there = source >= 0 && source < 32 && source / width == lane() / width;
  if (!there) return value;
  if ((mask >> source & 1) == 0) harrier_emulated_trap("a shuffle from a lane that is not in the mask");
  return from_word<Type>(values[source]);
}

/// Joins what all lanes of the mask gave.
template <class Type, class Join>
inline Type reduce(unsigned mask, const char* name, Type value, Join join) {
  const unsigned long long* values = harrier_emulated_meet(mask, name, to_word(value));
  bool first = true;
  Type result = value;
  for (int i = 0; i < 32; ++i) {
    if ((mask >> i & 1) == 0) continue;
    result = first ? from_word<Type>(values[i]) : join(result, from_word<Type>(values[i]));
    first = false;
  }
  return result;
}

/// A bit for each lane of the mask whose value satisfies `test`.
template <class Test>
inline unsigned vote(unsigned mask, const char* name, unsigned long long value, Test test) {
  const unsigned long long* values = harrier_emulated_meet(mask, name, value);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (mask >> i & 1) != 0 && test(values[i]) ? 1u << i : 0;
  return bits;
}

/// Calls a kernel with arguments as cuLaunchKernel takes them: a pointer to each.
template <int... kIndex>
struct Indices {};
template <int kCount, int... kIndex>
struct MakeIndices : MakeIndices<kCount - 1, kCount - 1, kIndex...> {};
template <int... kIndex>
struct MakeIndices<0, kIndex...> {
  using Type = Indices<kIndex...>;
};

template <class... Parameters, int... kIndex>
inline void call(void (*kernel)(Parameters...), void** arguments, Indices<kIndex...>) {
  kernel(*static_cast<Parameters*>(arguments[kIndex])...);
}
template <class... Parameters>
inline void call(void (*kernel)(Parameters...), void** arguments) {
  call(kernel, arguments, typename MakeIndices<sizeof...(Parameters)>::Type{});
}

template <class... Parameters>
constexpr KernelFacts facts(void (*)(Parameters...), int max_threads = 1024, int min_ctas = 1) {
  return {
      static_cast<int>(sizeof...(Parameters)), {static_cast<unsigned>(sizeof(Parameters))...}, max_threads, min_ctas};
}

}  // namespace harrier_emulated

template <class Type>
inline Type __shfl_sync(unsigned mask, Type value, int source, int width = 32) {
  const int lane = harrier_emulated::lane();
  return harrier_emulated::shuffle(mask, "__shfl_sync", value, lane / width * width + (source & (width - 1)), width);
}
template <class Type>
inline Type __shfl_xor_sync(unsigned mask, Type value, int lane_mask, int width = 32) {
  return harrier_emulated::shuffle(mask, "__shfl_xor_sync", value, harrier_emulated::lane() ^ lane_mask, width);
}
template <class Type>
inline Type __shfl_up_sync(unsigned mask, Type value, unsigned delta, int width = 32) {
  return harrier_emulated::shuffle(mask, "__shfl_up_sync", value, harrier_emulated::lane() - static_cast<int>(delta),
                                   width);
}
template <class Type>
inline Type __shfl_down_sync(unsigned mask, Type value, unsigned delta, int width = 32) {
  return harrier_emulated::shuffle(mask, "__shfl_down_sync", value, harrier_emulated::lane() + static_cast<int>(delta),
                                   width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return harrier_emulated::vote(mask, "__ballot_sync", predicate != 0, [](unsigned long long v) { return v != 0; });
}
inline int __any_sync(unsigned mask, int predicate) {
  return harrier_emulated::vote(mask, "__any_sync", predicate != 0, [](unsigned long long v) { return v != 0; }) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return harrier_emulated::vote(mask, "__all_sync", predicate != 0, [](unsigned long long v) { return v == 0; }) == 0;
}
template <class Type>
inline unsigned __match_any_sync(unsigned mask, Type value) {
  const unsigned long long word = harrier_emulated::to_word(value);
  return harrier_emulated::vote(mask, "__match_any_sync", word, [&](unsigned long long v) { return v == word; });
}

#define HARRIER_REDUCE(Name, Result)                                                                    \
  template <class Type>                                                                                 \
  inline Type Name(unsigned mask, Type value) {                                                         \
    return harrier_emulated::reduce(mask, #Name, value, [](Type a, Type b) -> Type { return Result; }); \
  }
HARRIER_REDUCE(__reduce_add_sync, a + b)
HARRIER_REDUCE(__reduce_min_sync, a < b ? a : b)
HARRIER_REDUCE(__reduce_max_sync, a < b ? b : a)
HARRIER_REDUCE(__reduce_and_sync, a& b)
HARRIER_REDUCE(__reduce_or_sync, a | b)
HARRIER_REDUCE(__reduce_xor_sync, a ^ b)
#undef HARRIER_REDUCE

// Bits and numbers.

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }
inline int __clzll(long long bits) { return bits == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(bits)); }
inline unsigned __brev(unsigned bits) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (bits >> i & 1) << (31 - i);
  return reversed;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both >> (shift & 31));
}
inline unsigned __funnelshift_lc(unsigned low, unsigned high, unsigned shift) {
  return shift >= 32 ? low : __funnelshift_l(low, high, shift);
}
inline unsigned __funnelshift_rc(unsigned low, unsigned high, unsigned shift) {
  return shift >= 32 ? high : __funnelshift_r(low, high, shift);
}

inline int __float_as_int(float value) { return static_cast<int>(harrier_emulated::bits_of(value)); }
inline unsigned __float_as_uint(float value) { return harrier_emulated::bits_of(value); }
inline float __int_as_float(int bits) { return harrier_emulated::float_of(static_cast<unsigned>(bits)); }
inline float __uint_as_float(unsigned bits) { return harrier_emulated::float_of(bits); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
inline int __mul24(int a, int b) { return a * b; }
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}

template <class Type>
constexpr Type min(Type a, Type b) {
  return b < a ? b : a;
}
template <class Type>
constexpr Type max(Type a, Type b) {
  return a < b ? b : a;
}
