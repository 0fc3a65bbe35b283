// The arithmetic of the pattern language, so that generated masks and scores read as they are written.
//
// Integers wrap at 32 bits; / and % round towards minus infinity and give 0 for a divisor of 0; shifts count modulo 32.
#pragma once

#include "codegen/cuda/kernels/pattern.cuh"
#include "codegen/cuda/kernels/ptx.cuh"

namespace harrier {

struct Int {
  int value;
  constexpr __device__ __forceinline__ Int(int v) : value(v) {}
  constexpr __device__ __forceinline__ Int(bool v) : value(v ? 1 : 0) {}
  constexpr __device__ __forceinline__ uint32 bits() const { return static_cast<uint32>(value); }
};

__device__ __forceinline__ Int wrapped(uint32 bits) { return Int(static_cast<int>(bits)); }

__device__ __forceinline__ Int operator+(Int a, Int b) { return wrapped(a.bits() + b.bits()); }
__device__ __forceinline__ Int operator-(Int a, Int b) { return wrapped(a.bits() - b.bits()); }
__device__ __forceinline__ Int operator*(Int a, Int b) { return wrapped(a.bits() * b.bits()); }
__device__ __forceinline__ Int operator-(Int a) { return wrapped(0u - a.bits()); }
__device__ __forceinline__ Int operator&(Int a, Int b) { return wrapped(a.bits() & b.bits()); }
__device__ __forceinline__ Int operator|(Int a, Int b) { return wrapped(a.bits() | b.bits()); }
__device__ __forceinline__ Int operator^(Int a, Int b) { return wrapped(a.bits() ^ b.bits()); }
__device__ __forceinline__ Int operator<<(Int a, Int b) { return wrapped(a.bits() << (b.bits() & 31)); }
__device__ __forceinline__ Int operator>>(Int a, Int b) { return Int(a.value >> (b.bits() & 31)); }
__device__ __forceinline__ bool operator<(Int a, Int b) { return a.value < b.value; }
__device__ __forceinline__ bool operator<=(Int a, Int b) { return a.value <= b.value; }
__device__ __forceinline__ bool operator>(Int a, Int b) { return a.value > b.value; }
__device__ __forceinline__ bool operator>=(Int a, Int b) { return a.value >= b.value; }
__device__ __forceinline__ bool operator==(Int a, Int b) { return a.value == b.value; }
__device__ __forceinline__ bool operator!=(Int a, Int b) { return a.value != b.value; }

__device__ __forceinline__ Int operator/(Int a, Int b) {
  if (b.value == 0) return 0;
  if (b.value == -1) return -a;  // the one quotient that could overflow
  const int quotient = a.value / b.value;
  return quotient - (a.value % b.value != 0 && (a.value < 0) != (b.value < 0) ? 1 : 0);
}
__device__ __forceinline__ Int operator%(Int a, Int b) {
  if (b.value == 0 || b.value == -1) return 0;
  const int remainder = a.value % b.value;
  return remainder != 0 && (remainder < 0) != (b.value < 0) ? remainder + b.value : remainder;
}

__device__ __forceinline__ Int minimum(Int a, Int b) { return a < b ? a : b; }
__device__ __forceinline__ Int maximum(Int a, Int b) { return a < b ? b : a; }
__device__ __forceinline__ Int absolute(Int a) { return a.value < 0 ? -a : a; }
__device__ __forceinline__ float minimum(float a, float b) { return fminf(a, b); }
__device__ __forceinline__ float maximum(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ float absolute(float a) { return fabsf(a); }
__device__ __forceinline__ float to_float(Int a) { return static_cast<float>(a.value); }

__device__ __forceinline__ float exponential(float x) { return ptx::exp2_fast(x * kLog2OfE); }
__device__ __forceinline__ float logarithm(float x) { return ptx::log2_fast(x) * kLogOf2; }
__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ float hyperbolic_tangent(float x) { return ptx::tanh_fast(x); }

/// Where an element of array slot `slot` lies; what indices leave out is 0.
__device__ __forceinline__ int64 place_of(const Position& at, int slot, Int i = 0, Int j = 0, Int k = 0, Int l = 0) {
  const DeviceArray& array = at.arguments.arrays[slot];
  return i.value * array.strides[0] + j.value * array.strides[1] + k.value * array.strides[2] +
         l.value * array.strides[3];
}
template <class Element>
__device__ __forceinline__ Element load(const Position& at, int slot, Int i = 0, Int j = 0, Int k = 0, Int l = 0) {
  return static_cast<const Element*>(at.arguments.arrays[slot].data)[place_of(at, slot, i, j, k, l)];
}
/// The element of an array [key tokens] that belongs to the query's own position; for queries outside of the keys, to
/// the nearest one.
__device__ __forceinline__ int load_at_query(const Position& at, int slot, int query) {
  const int position = larger(smaller(at.aligned(query), at.key_length - 1), 0);
  return at.key_length > 0 ? static_cast<const int*>(at.arguments.arrays[slot].data)[at.key_token + position] : 0;
}
__device__ __forceinline__ Int load_int32(const Position& at, int slot, Int i = 0, Int j = 0, Int k = 0, Int l = 0) {
  return load<int>(at, slot, i, j, k, l);
}
__device__ __forceinline__ Int load_uint8(const Position& at, int slot, Int i = 0, Int j = 0, Int k = 0, Int l = 0) {
  return static_cast<int>(load<unsigned char>(at, slot, i, j, k, l));
}
__device__ __forceinline__ float load_float32(const Position& at, int slot, Int i = 0, Int j = 0, Int k = 0,
                                              Int l = 0) {
  return load<float>(at, slot, i, j, k, l);
}

}  // namespace harrier
