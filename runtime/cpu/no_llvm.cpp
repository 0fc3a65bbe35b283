#include "runtime/cpu/core_count.h"
#include "runtime/cpu/cpu_target.h"

namespace harrier {

CpuTarget host_cpu_target() {
  CpuTarget target;
  target.cores = usable_cores();
  return target;
}

}  // namespace harrier
