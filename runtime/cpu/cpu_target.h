// The machine that runs us, as a code generator wants to know it.
#pragma once

#include "ir/plan.h"

namespace harrier {

/// Triple, CPU, features, vector width and the cores this process may run on. Without LLVM: an empty triple and the
/// core count.
CpuTarget host_cpu_target();

}  // namespace harrier
