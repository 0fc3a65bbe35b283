// A plan: every number that we choose. Here those of the CPU backend; each has its limits where it is chosen.
#pragma once

#include <cstdint>
#include <string>

namespace harrier {

/// The host's vector unit, as the compiler found it or as a test pretends it is.
struct CpuTarget {
  std::string triple;
  std::string cpu;
  std::string features;       // LLVM's comma-separated +feature list
  int vector_lanes = 4;       // fp32 lanes of the widest vector the host runs at speed: 4 NEON/SSE, 8 AVX2, 16 AVX-512
  int vector_registers = 16;  // architectural registers of that width
  int cores = 1;              // cores this process may run on
  bool operator==(const CpuTarget&) const = default;
};

/// One row (query tile) is `tile_q` queries in vector lanes; keys come `tile_k` at a time. S = Q K^T is computed in
/// register blocks of `q_vectors` x `key_block` accumulators, O += P V in blocks of `q_vectors` x `value_block`.
struct CpuPlan {
  int64_t tile_q = 64;
  int64_t tile_k = 64;
  int vector_lanes = 16;
  int q_vectors = 4;
  int key_block = 6;
  int value_block = 4;
  bool operator==(const CpuPlan&) const = default;
};

/// "tile 64x64, 16 lanes, blocks 4x6 and 4x4"
std::string print(const CpuPlan& plan);

}  // namespace harrier
