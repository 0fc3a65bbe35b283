// How many cores this process may use.
#pragma once

#include <sched.h>

#include <algorithm>
#include <thread>

namespace harrier {

/// Cores in the affinity mask, which is what `taskset` and containers narrow; at least 1.
inline int usable_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace harrier
