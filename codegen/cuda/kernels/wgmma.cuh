// Warpgroup matrix products: m64nNk16 for the N that plans use, on the panels of panels.cuh.
#pragma once

#include "codegen/cuda/kernels/panels.cuh"

namespace harrier::wgmma {

/// Orders register accesses before the products that follow.
__device__ __forceinline__ void fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Returns once at most `kPending` of the committed groups are unfinished.
template <int kPending>
__device__ __forceinline__ void wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving uses of these registers across: products in flight read and write them unseen.
template <int kCount>
__device__ __forceinline__ void hold(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}

template <int kCount>
__device__ __forceinline__ void hold(uint32 (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(registers[i])::"memory");
}

/// The element type's name inside the instruction.
template <bool kBFloat16>
struct TypeName;
template <>
struct TypeName<true> {
  static constexpr char kText[] = ".bf16.bf16";
};
template <>
struct TypeName<false> {
  static constexpr char kText[] = ".f16.f16";
};

/// m64nNk16 with fp32 accumulators d.
template <int kN, bool kBFloat16>
struct Product;

// The accumulators' places in the instruction's text, and the accumulators themselves.
// clang-format off
#define HARRIER_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define HARRIER_OPERANDS_16 "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define HARRIER_NAMES_32 HARRIER_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define HARRIER_OPERANDS_32 HARRIER_OPERANDS_16, "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define HARRIER_NAMES_40 HARRIER_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define HARRIER_OPERANDS_40 HARRIER_OPERANDS_32, "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39])
#define HARRIER_NAMES_48 HARRIER_NAMES_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define HARRIER_OPERANDS_48 HARRIER_OPERANDS_40, "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
#define HARRIER_NAMES_56 HARRIER_NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define HARRIER_OPERANDS_56 HARRIER_OPERANDS_48, "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55])
#define HARRIER_NAMES_64 HARRIER_NAMES_56 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define HARRIER_OPERANDS_64 HARRIER_OPERANDS_56, "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define HARRIER_NAMES_72 HARRIER_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define HARRIER_OPERANDS_72 HARRIER_OPERANDS_64, "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71])
#define HARRIER_NAMES_80 HARRIER_NAMES_72 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define HARRIER_OPERANDS_80 HARRIER_OPERANDS_72, "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79])
#define HARRIER_NAMES_88 HARRIER_NAMES_80 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define HARRIER_OPERANDS_88 HARRIER_OPERANDS_80, "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87])
#define HARRIER_NAMES_96 HARRIER_NAMES_88 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define HARRIER_OPERANDS_96 HARRIER_OPERANDS_88, "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])
#define HARRIER_NAMES_112 HARRIER_NAMES_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define HARRIER_OPERANDS_112 HARRIER_OPERANDS_96, "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111])
#define HARRIER_NAMES_128 HARRIER_NAMES_112 ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define HARRIER_OPERANDS_128 HARRIER_OPERANDS_112, "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
// clang-format on

// shared_shared: d = a b^T, both k-major. shared_n_major: d = a b, a k-major and b n-major. register_shared: the same
// with a in registers. All add d unless `accumulate` is 0.
#define HARRIER_WGMMA(N, ACCUMULATORS, P0, P1, P2, P3, P4, P5, P6)                                                    \
  template <bool kBFloat16>                                                                                           \
  struct Product<N, kBFloat16> {                                                                                      \
    static __device__ __forceinline__ void shared_shared(float (&d)[ACCUMULATORS], uint64 a, uint64 b,                \
                                                         int accumulate) {                                            \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " P2 ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32" P3      \
                   " {" HARRIER_NAMES_##ACCUMULATORS "}, " P0 ", " P1 ", p, 1, 1, 0, 0; }"                            \
                   : HARRIER_OPERANDS_##ACCUMULATORS                                                                  \
                   : "l"(a), "l"(b), "r"(accumulate), "C"(TypeName<kBFloat16>::kText));                               \
    }                                                                                                                 \
    static __device__ __forceinline__ void shared_n_major(float (&d)[ACCUMULATORS], uint64 a, uint64 b,               \
                                                          int accumulate) {                                           \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " P2 ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32" P3      \
                   " {" HARRIER_NAMES_##ACCUMULATORS "}, " P0 ", " P1 ", p, 1, 1, 0, 1; }"                            \
                   : HARRIER_OPERANDS_##ACCUMULATORS                                                                  \
                   : "l"(a), "l"(b), "r"(accumulate), "C"(TypeName<kBFloat16>::kText));                               \
    }                                                                                                                 \
    static __device__ __forceinline__ void register_shared(float (&d)[ACCUMULATORS], uint32 a0, uint32 a1, uint32 a2, \
                                                           uint32 a3, uint64 b, int accumulate) {                     \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, " P5 ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32" P6      \
                   " {" HARRIER_NAMES_##ACCUMULATORS "}, {" P0 ", " P1 ", " P2 ", " P3 "}, " P4 ", p, 1, 1, 1; }"     \
                   : HARRIER_OPERANDS_##ACCUMULATORS                                                                  \
                   : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(accumulate), "C"(TypeName<kBFloat16>::kText));   \
    }                                                                                                                 \
  };

HARRIER_WGMMA(32, 16, "%16", "%17", "%18", "%19", "%20", "%21", "%22")
HARRIER_WGMMA(64, 32, "%32", "%33", "%34", "%35", "%36", "%37", "%38")
HARRIER_WGMMA(80, 40, "%40", "%41", "%42", "%43", "%44", "%45", "%46")
HARRIER_WGMMA(96, 48, "%48", "%49", "%50", "%51", "%52", "%53", "%54")
HARRIER_WGMMA(112, 56, "%56", "%57", "%58", "%59", "%60", "%61", "%62")
HARRIER_WGMMA(128, 64, "%64", "%65", "%66", "%67", "%68", "%69", "%70")
HARRIER_WGMMA(144, 72, "%72", "%73", "%74", "%75", "%76", "%77", "%78")
HARRIER_WGMMA(160, 80, "%80", "%81", "%82", "%83", "%84", "%85", "%86")
HARRIER_WGMMA(176, 88, "%88", "%89", "%90", "%91", "%92", "%93", "%94")
HARRIER_WGMMA(192, 96, "%96", "%97", "%98", "%99", "%100", "%101", "%102")
HARRIER_WGMMA(224, 112, "%112", "%113", "%114", "%115", "%116", "%117", "%118")
HARRIER_WGMMA(256, 128, "%128", "%129", "%130", "%131", "%132", "%133", "%134")

#undef HARRIER_WGMMA

}  // namespace harrier::wgmma
