#include "modules.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>

#include "image.h"
#include "settings.h"
#include "state.h"

using namespace harrier::emulated;

struct CUmod_st {
  void* library = nullptr;
  std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
};

namespace {

/// Kernels find the emulator's functions by name, whichever way this library was opened.
void make_visible() {
  Dl_info self;
  if (dladdr(reinterpret_cast<const void*>(&make_visible), &self) == 0) return;
  dlopen(self.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

void* open_library(const std::string& bytes) {
  const char* folder = std::getenv("TMPDIR");
  std::string path = fmt::format("{}/harrier_emulated_XXXXXX", folder == nullptr ? "/tmp" : folder);
  const int file = mkstemp(path.data());
  if (file < 0) return nullptr;
  close(file);
  std::ofstream(path, std::ios::binary) << bytes;
  make_visible();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) fmt::print(stderr, "emulated GPU: {}\n", dlerror());
  unlink(path.c_str());
  return library;
}

int registers_of(const harrier_emulated::KernelFacts& facts) {
  return std::min(255, 65536 / (facts.max_threads * facts.min_ctas) / 8 * 8);
}

}  // namespace

HARRIER_EXPORT CUresult cuModuleLoadDataEx(CUmodule* module, const void* bytes, unsigned, int*, void**) {
  HARRIER_ENTER(Needs::kContext);
  if (module == nullptr || bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto image = read_image(bytes);
  if (!image) return CUDA_ERROR_INVALID_IMAGE;
  const Capability device = capability();
  if (!runs_on(image->architecture, device.major, device.minor)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  void* library = open_library(image->library);
  if (library == nullptr) return CUDA_ERROR_INVALID_IMAGE;
  *module = new CUmod_st{library, {}};
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  HARRIER_ENTER(Needs::kContext);
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

HARRIER_EXPORT CUresult cuModuleUnload(CUmodule module) {
  HARRIER_ENTER(Needs::kContext);
  if (module == nullptr) return CUDA_ERROR_INVALID_VALUE;
  dlclose(module->library);
  delete module;
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  HARRIER_ENTER(Needs::kContext);
  if (function == nullptr || module == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto& kernel = module->functions[name];
  if (kernel == nullptr) {
    void* entry = dlsym(module->library, fmt::format("{}__emulated", name).c_str());
    const void* facts = dlsym(module->library, fmt::format("{}__facts", name).c_str());
    if (entry == nullptr || facts == nullptr) {
      module->functions.erase(name);
      return CUDA_ERROR_NOT_FOUND;
    }
    kernel = std::make_unique<CUfunc_st>();
    kernel->name = name;
    kernel->entry = reinterpret_cast<void (*)(void**)>(entry);
    kernel->facts = *static_cast<const harrier_emulated::KernelFacts*>(facts);
  }
  *function = kernel.get();
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  HARRIER_ENTER(Needs::kContext);
  if (function == nullptr || value < 0) return CUDA_ERROR_INVALID_VALUE;
  if (attribute == 9) return value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;  // preferred carveout
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
  if (value > device_attribute(97)) return CUDA_ERROR_INVALID_VALUE;
  function->dynamic_shared_limit = static_cast<unsigned>(value);
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuFuncGetAttribute(int* value, int attribute, CUfunction function) {
  HARRIER_ENTER(Needs::kContext);
  if (value == nullptr || function == nullptr || attribute < 0 || attribute > 15) return CUDA_ERROR_INVALID_VALUE;
  *value = 0;
  if (attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK) *value = function->facts.max_threads;
  if (attribute == 4) *value = registers_of(function->facts);
  if (attribute == 5 || attribute == 6) *value = 10 * capability().major + capability().minor;
  if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    *value = static_cast<int>(function->dynamic_shared_limit);
  }
  return CUDA_SUCCESS;
}

HARRIER_EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* ctas, CUfunction function, int threads,
                                                                    std::size_t shared_bytes) {
  HARRIER_ENTER(Needs::kContext);
  if (ctas == nullptr || function == nullptr || threads <= 0) return CUDA_ERROR_INVALID_VALUE;
  const int warps = (threads + 31) / 32;
  const int by_threads = device_attribute(39) / (32 * warps);
  const int by_shared = device_attribute(81) / (static_cast<int>(shared_bytes) + device_attribute(111));
  const int by_registers = 65536 / (registers_of(function->facts) * 32 * warps);
  *ctas = threads > function->facts.max_threads ? 0 : std::min({by_threads, by_shared, by_registers});
  return CUDA_SUCCESS;
}
