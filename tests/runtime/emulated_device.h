// The emulated GPU, opened the way a GPU is.
#pragma once

#include <memory>
#include <string>

#include "runtime/cuda/device.h"
#include "runtime/cuda/nvrtc.h"

namespace harrier::test {

inline cuda::DeviceHandle open_emulated(int ordinal = 0) {
  return std::make_shared<const cuda::OpenDevice>(cuda::load_driver(HARRIER_EMULATED_GPU), ordinal);
}

inline cuda::CudaBinary compile_emulated(const std::string& source, const std::string& architecture = "sm_90a") {
  return cuda::compile(cuda::load_nvrtc(HARRIER_EMULATED_GPU),
                       {.text = source, .includes = {}, .architecture = architecture, .use_cache = true, .stop = {}});
}

}  // namespace harrier::test
