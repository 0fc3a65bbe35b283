// What the cores can do at most: fused multiply-adds on registers, nothing loaded or stored.
#pragma once

namespace harrier::bench {

struct FmaPeak {
  double gflops = 0;     // 2 x fused multiply-adds a second, fp32, all threads together
  int vector_lanes = 0;  // fp32 lanes of the vectors used: the widest this host has
};

/// Runs `threads` threads at once, several times, for about a quarter of a second; the best of them counts.
FmaPeak measure_fma_peak(int threads);

}  // namespace harrier::bench
