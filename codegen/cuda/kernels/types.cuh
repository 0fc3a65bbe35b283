// Types and constants that every kernel file shares. Kernels include nothing but files of this folder. This file and
// those that describe parameters are plain C++: the launcher includes the very same.
#pragma once

namespace harrier {

using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;
using int64 = long long;

/// A CUtensorMap as the driver encoded it.
struct alignas(64) TensorMap {
  uint64 words[16];
};

/// Keys [begin, end); empty when begin >= end.
struct Interval {
  int begin;
  int end;
};

inline constexpr float kLog2OfE = 1.4426950408889634f;
inline constexpr float kLogOf2 = 0.6931471805599453f;

/// Threads of a warpgroup, the unit that issues wgmma.
inline constexpr int kWarpgroupThreads = 128;
/// Query rows that one warpgroup owns.
inline constexpr int kWarpgroupRows = 64;

constexpr float minus_infinity() { return __builtin_bit_cast(float, 0xff800000u); }

template <class A, class B>
inline constexpr bool is_same = false;
template <class A>
inline constexpr bool is_same<A, A> = true;

template <bool kFirst, class A, class B>
struct Choose {
  using Type = A;
};
template <class A, class B>
struct Choose<false, A, B> {
  using Type = B;
};

constexpr int smaller(int a, int b) { return a < b ? a : b; }
constexpr int larger(int a, int b) { return a > b ? a : b; }
constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }

}  // namespace harrier
