#include "bench/fma_peak.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace harrier::bench {
namespace {

using Vector4 = float __attribute__((vector_size(16)));
using Vector8 = float __attribute__((vector_size(32)));
using Vector16 = float __attribute__((vector_size(64)));

// Enough chains to hide the latency of two units of four or five cycles each, few enough to stay in 16 registers.
constexpr int kChains = 12;
constexpr int64_t kStepsPerRound = 10'000'000;
constexpr int kRounds = 8;

using RunRound = float (*)(float multiplier, float addend);

#if defined(__x86_64__)
#define HARRIER_VECTOR_REGISTER "+v"
#else
#define HARRIER_VECTOR_REGISTER "+w"
#endif
// An empty statement that reads and writes the chains: equal chains are not merged, and none is folded.
#define HARRIER_KEEP_APART(a, b, c, d, e, f)                                                             \
  __asm__ volatile(""                                                                                    \
                   : HARRIER_VECTOR_REGISTER(a), HARRIER_VECTOR_REGISTER(b), HARRIER_VECTOR_REGISTER(c), \
                     HARRIER_VECTOR_REGISTER(d), HARRIER_VECTOR_REGISTER(e), HARRIER_VECTOR_REGISTER(f))

// A macro, because a function takes its instruction set from its own attribute and not from its caller's: a shared
// template would be compiled for the baseline. Named chains, because an array of them ends up in memory.
// NOLINTBEGIN(bugprone-macro-parentheses): a type in parentheses is an expression.
#define HARRIER_FMA_ROUND(NAME, VECTOR, ATTRIBUTE)                                                           \
  ATTRIBUTE float NAME(float multiplier, float addend) {                                                     \
    const VECTOR m = multiplier - VECTOR{};                                                                  \
    const VECTOR a = addend - VECTOR{};                                                                      \
    VECTOR c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a, c10 = a, c11 = a; \
    for (int64_t step = 0; step < kStepsPerRound; ++step) {                                                  \
      c0 = c0 * m + a;                                                                                       \
      c1 = c1 * m + a;                                                                                       \
      c2 = c2 * m + a;                                                                                       \
      c3 = c3 * m + a;                                                                                       \
      c4 = c4 * m + a;                                                                                       \
      c5 = c5 * m + a;                                                                                       \
      c6 = c6 * m + a;                                                                                       \
      c7 = c7 * m + a;                                                                                       \
      c8 = c8 * m + a;                                                                                       \
      c9 = c9 * m + a;                                                                                       \
      c10 = c10 * m + a;                                                                                     \
      c11 = c11 * m + a;                                                                                     \
      HARRIER_KEEP_APART(c0, c1, c2, c3, c4, c5);                                                            \
      HARRIER_KEEP_APART(c6, c7, c8, c9, c10, c11);                                                          \
    }                                                                                                        \
    const VECTOR sum = c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + c10 + c11;                          \
    return sum[0];                                                                                           \
  }
// NOLINTEND(bugprone-macro-parentheses)

#if defined(__x86_64__)
HARRIER_FMA_ROUND(round_avx512, Vector16, __attribute__((target("avx512f"))))
HARRIER_FMA_ROUND(round_avx2, Vector8, __attribute__((target("avx2,fma"))))
HARRIER_FMA_ROUND(round_sse, Vector4, )
#else
HARRIER_FMA_ROUND(round_baseline, Vector4, )
#endif

struct Kind {
  RunRound run;
  int lanes;
};

Kind widest() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {round_avx512, 16};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {round_avx2, 8};
  return {round_sse, 4};
#else
  return {round_baseline, 4};
#endif
}

}  // namespace

FmaPeak measure_fma_peak(int threads) {
  using TimePoint = std::chrono::steady_clock::time_point;
  struct Round {
    std::vector<TimePoint> starts;
    std::vector<TimePoint> ends;
  };
  const Kind kind = widest();
  std::vector<Round> rounds(kRounds, {std::vector<TimePoint>(threads), std::vector<TimePoint>(threads)});
  std::vector<float> sums(threads);
  std::barrier gate(threads);
  const auto work = [&](int thread) {
    for (Round& round : rounds) {
      gate.arrive_and_wait();
      round.starts[thread] = std::chrono::steady_clock::now();
      sums[thread] += kind.run(0.999999F, 1e-6F);
      round.ends[thread] = std::chrono::steady_clock::now();
    }
  };
  std::vector<std::jthread> pool;
  for (int thread = 1; thread < threads; ++thread) pool.emplace_back(work, thread);
  work(0);
  pool.clear();

  double best_seconds = 1e9;
  for (const Round& round : rounds) {
    const std::chrono::duration<double> spent = std::ranges::max(round.ends) - std::ranges::min(round.starts);
    best_seconds = std::min(best_seconds, spent.count());
  }
  const double flops = 2.0 * kind.lanes * kChains * kStepsPerRound * threads;
  return {.gflops = flops / best_seconds * 1e-9, .vector_lanes = kind.lanes};
}

}  // namespace harrier::bench
