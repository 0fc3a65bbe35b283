// What a multiprocessor has, for the plans of both directions.
#pragma once

#include <cstdint>
#include <string>

#include "ir/cuda_plan.h"
#include "ir/error.h"

namespace harrier {

inline constexpr int64_t kReservedBytesPerCta = 1024;
inline constexpr int64_t kRegistersPerSm = 65536;

/// Shared memory of the GPU that a family is named after.
inline int64_t shared_bytes_per_sm(CudaFamily family) { return family == CudaFamily::kSm90 ? 233472 : 167936; }

/// Registers a thread is launched with when `threads` of them fill the multiprocessor.
inline int64_t launch_registers(int64_t threads) { return kRegistersPerSm / threads / 8 * 8; }

/// Throws InvalidInput.
inline void refuse_plan(bool refused, const std::string& sentence) {
  if (refused) throw InvalidInput(sentence);
}

}  // namespace harrier
