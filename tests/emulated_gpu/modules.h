// Loaded modules and their kernels.
#pragma once

#include <string>

#include "device_api.h"

struct CUmod_st;

/// A kernel: CUfunction points to one.
struct CUfunc_st {
  std::string name;
  void (*entry)(void** arguments) = nullptr;
  harrier_emulated::KernelFacts facts{};
  unsigned dynamic_shared_limit = 48 * 1024;
};
