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
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i]));
}

template <int kCount>
__device__ __forceinline__ void hold(uint32 (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(registers[i]));
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

// One step of k.
#define HARRIER_STEP(N, ACCUMULATORS, TYPE, LEFT, RIGHT, ADDS, MAJOR) "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32" TYPE " {" HARRIER_NAMES_##ACCUMULATORS "}, " LEFT ", " RIGHT ", " ADDS ", 1, 1" MAJOR "; "
#define HARRIER_REGISTERS(A0, A1, A2, A3) "{" A0 ", " A1 ", " A2 ", " A3 "}"
// Moves a descriptor on: only its low word changes.
#define HARRIER_MOVE(NAME, FROM, UNITS) "mov.b64 {x, y}, " FROM "; add.u32 x, x, " UNITS "; mov.b64 " NAME ", {x, y}; "
#define HARRIER_BEGIN(ACCUMULATE) "{ .reg .pred p, q; .reg .b32 x, y; .reg .b64 l, r; setp.ne.b32 p, " ACCUMULATE ", 0; setp.ne.b32 q, 1, 0; "
#define HARRIER_SHARED(N, ACCUMULATORS, A, B, STEP, TYPE, MAJOR) \
  HARRIER_STEP(N, ACCUMULATORS, TYPE, A, B, "p", MAJOR) \
  HARRIER_MOVE("l", A, "2") HARRIER_MOVE("r", B, STEP) HARRIER_STEP(N, ACCUMULATORS, TYPE, "l", "r", "q", MAJOR) \
  HARRIER_MOVE("l", A, "4") HARRIER_MOVE("r", B, "2 * " STEP) HARRIER_STEP(N, ACCUMULATORS, TYPE, "l", "r", "q", MAJOR) \
  HARRIER_MOVE("l", A, "6") HARRIER_MOVE("r", B, "3 * " STEP) HARRIER_STEP(N, ACCUMULATORS, TYPE, "l", "r", "q", MAJOR)

// shared_shared: d = a b^T, both k-major. shared_n_major: d = a b, a k-major and b n-major. register_shared: the same
// with a in registers. All add d unless `accumulate` is 0.
//
// The others do four steps of k in one statement, which halves what products cost NVRTC's optimiser: each statement hands
// all accumulators over. They go on by 16 columns of a k-major operand's panel, and by `kStep` units of 16 bytes in an
// n-major one.
#define HARRIER_WGMMA(N, ACCUMULATORS, P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17, P18, P19) \
  template <bool kBFloat16> \
  struct Product<N, kBFloat16> { \
    static __device__ __forceinline__ void shared_shared(float (&d)[ACCUMULATORS], uint64 a, uint64 b, int accumulate) { \
      asm volatile(HARRIER_BEGIN(P2) HARRIER_STEP(N, ACCUMULATORS, P3, P0, P1, "p", ", 0, 0") "}" \
                   : HARRIER_OPERANDS_##ACCUMULATORS : "l"(a), "l"(b), "r"(accumulate), "C"(TypeName<kBFloat16>::kText)); \
    } \
    static __device__ __forceinline__ void shared_n_major(float (&d)[ACCUMULATORS], uint64 a, uint64 b, int accumulate) { \
      asm volatile(HARRIER_BEGIN(P2) HARRIER_STEP(N, ACCUMULATORS, P3, P0, P1, "p", ", 0, 1") "}" \
                   : HARRIER_OPERANDS_##ACCUMULATORS : "l"(a), "l"(b), "r"(accumulate), "C"(TypeName<kBFloat16>::kText)); \
    } \
    static __device__ __forceinline__ void register_shared(float (&d)[ACCUMULATORS], const uint32* a, uint64 b, int accumulate) { \
      asm volatile(HARRIER_BEGIN(P5) HARRIER_STEP(N, ACCUMULATORS, P6, HARRIER_REGISTERS(P0, P1, P2, P3), P4, "p", ", 1") "}" \
                   : HARRIER_OPERANDS_##ACCUMULATORS \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "C"(TypeName<kBFloat16>::kText)); \
    } \
    static __device__ __forceinline__ void four_shared_shared(float (&d)[ACCUMULATORS], uint64 a, uint64 b, int accumulate) { \
      asm volatile(HARRIER_BEGIN(P2) HARRIER_SHARED(N, ACCUMULATORS, P0, P1, "2", P3, ", 0, 0") "}" \
                   : HARRIER_OPERANDS_##ACCUMULATORS : "l"(a), "l"(b), "r"(accumulate), "C"(TypeName<kBFloat16>::kText)); \
    } \
    template <int kStep> \
    static __device__ __forceinline__ void four_shared_n_major(float (&d)[ACCUMULATORS], uint64 a, uint64 b, int accumulate) { \
      asm volatile(HARRIER_BEGIN(P2) HARRIER_SHARED(N, ACCUMULATORS, P0, P1, P4, P3, ", 0, 1") "}" \
                   : HARRIER_OPERANDS_##ACCUMULATORS : "l"(a), "l"(b), "r"(accumulate), "C"(TypeName<kBFloat16>::kText), "n"(kStep)); \
    } \
    template <int kStep> \
    static __device__ __forceinline__ void four_register_shared(float (&d)[ACCUMULATORS], const uint32* a, uint64 b, int accumulate) { \
      asm volatile(HARRIER_BEGIN(P17) HARRIER_STEP(N, ACCUMULATORS, P18, HARRIER_REGISTERS(P0, P1, P2, P3), P16, "p", ", 1") \
                   HARRIER_MOVE("r", P16, P19) HARRIER_STEP(N, ACCUMULATORS, P18, HARRIER_REGISTERS(P4, P5, P6, P7), "r", "q", ", 1") \
                   HARRIER_MOVE("r", P16, "2 * " P19) HARRIER_STEP(N, ACCUMULATORS, P18, HARRIER_REGISTERS(P8, P9, P10, P11), "r", "q", ", 1") \
                   HARRIER_MOVE("r", P16, "3 * " P19) HARRIER_STEP(N, ACCUMULATORS, P18, HARRIER_REGISTERS(P12, P13, P14, P15), "r", "q", ", 1") "}" \
                   : HARRIER_OPERANDS_##ACCUMULATORS \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]), "r"(a[8]), "r"(a[9]), "r"(a[10]), "r"(a[11]), "r"(a[12]), "r"(a[13]), "r"(a[14]), "r"(a[15]), "l"(b), "r"(accumulate), "C"(TypeName<kBFloat16>::kText), "n"(kStep)); \
    } \
  };

HARRIER_WGMMA(32, 16, "%16", "%17", "%18", "%19", "%20", "%21", "%22", "%23", "%24", "%25", "%26", "%27", "%28", "%29", "%30", "%31", "%32", "%33", "%34", "%35")
HARRIER_WGMMA(64, 32, "%32", "%33", "%34", "%35", "%36", "%37", "%38", "%39", "%40", "%41", "%42", "%43", "%44", "%45", "%46", "%47", "%48", "%49", "%50", "%51")
HARRIER_WGMMA(80, 40, "%40", "%41", "%42", "%43", "%44", "%45", "%46", "%47", "%48", "%49", "%50", "%51", "%52", "%53", "%54", "%55", "%56", "%57", "%58", "%59")
HARRIER_WGMMA(96, 48, "%48", "%49", "%50", "%51", "%52", "%53", "%54", "%55", "%56", "%57", "%58", "%59", "%60", "%61", "%62", "%63", "%64", "%65", "%66", "%67")
HARRIER_WGMMA(112, 56, "%56", "%57", "%58", "%59", "%60", "%61", "%62", "%63", "%64", "%65", "%66", "%67", "%68", "%69", "%70", "%71", "%72", "%73", "%74", "%75")
HARRIER_WGMMA(128, 64, "%64", "%65", "%66", "%67", "%68", "%69", "%70", "%71", "%72", "%73", "%74", "%75", "%76", "%77", "%78", "%79", "%80", "%81", "%82", "%83")
HARRIER_WGMMA(144, 72, "%72", "%73", "%74", "%75", "%76", "%77", "%78", "%79", "%80", "%81", "%82", "%83", "%84", "%85", "%86", "%87", "%88", "%89", "%90", "%91")
HARRIER_WGMMA(160, 80, "%80", "%81", "%82", "%83", "%84", "%85", "%86", "%87", "%88", "%89", "%90", "%91", "%92", "%93", "%94", "%95", "%96", "%97", "%98", "%99")
HARRIER_WGMMA(176, 88, "%88", "%89", "%90", "%91", "%92", "%93", "%94", "%95", "%96", "%97", "%98", "%99", "%100", "%101", "%102", "%103", "%104", "%105", "%106", "%107")
HARRIER_WGMMA(192, 96, "%96", "%97", "%98", "%99", "%100", "%101", "%102", "%103", "%104", "%105", "%106", "%107", "%108", "%109", "%110", "%111", "%112", "%113", "%114", "%115")
HARRIER_WGMMA(224, 112, "%112", "%113", "%114", "%115", "%116", "%117", "%118", "%119", "%120", "%121", "%122", "%123", "%124", "%125", "%126", "%127", "%128", "%129", "%130", "%131")
HARRIER_WGMMA(256, 128, "%128", "%129", "%130", "%131", "%132", "%133", "%134", "%135", "%136", "%137", "%138", "%139", "%140", "%141", "%142", "%143", "%144", "%145", "%146", "%147")
// clang-format on

#undef HARRIER_WGMMA

}  // namespace harrier::wgmma
