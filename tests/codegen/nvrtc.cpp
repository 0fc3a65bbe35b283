#include "nvrtc.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <sstream>
#include <vector>

namespace harrier::test {
namespace {

using Program = void*;

struct Nvrtc {
  int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  int (*compile)(Program, int, const char* const*) = nullptr;
  int (*log_size)(Program, size_t*) = nullptr;
  int (*log)(Program, char*) = nullptr;
  int (*destroy)(Program*) = nullptr;
};

template <typename Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
}

std::optional<Nvrtc> open_nvrtc() {
  const char* wanted = std::getenv("HARRIER_NVRTC");
  const std::array names = {wanted != nullptr ? wanted : "libnvrtc.so.13",
                            "libnvrtc.so.13",
                            "libnvrtc.so.12",
                            "libnvrtc.so",
                            "/usr/local/cuda/lib64/libnvrtc.so",
                            "/usr/local/cuda/lib/libnvrtc.so"};
  for (const char* name : names) {
    void* library = dlopen(name, RTLD_NOW);
    if (library == nullptr) continue;
    Nvrtc nvrtc;
    find(library, "nvrtcCreateProgram", nvrtc.create);
    find(library, "nvrtcCompileProgram", nvrtc.compile);
    find(library, "nvrtcGetProgramLogSize", nvrtc.log_size);
    find(library, "nvrtcGetProgramLog", nvrtc.log);
    find(library, "nvrtcDestroyProgram", nvrtc.destroy);
    if (nvrtc.create != nullptr && nvrtc.compile != nullptr) return nvrtc;
  }
  return std::nullopt;
}

}  // namespace

std::optional<NvrtcResult> compile_with_nvrtc(const std::string& source, const std::string& architecture) {
  static const std::optional<Nvrtc> nvrtc = open_nvrtc();
  if (!nvrtc) return std::nullopt;
  const std::string target = "--gpu-architecture=" + architecture;
  const std::string include = std::string("-I") + HARRIER_SOURCE_DIR;
  const std::vector<const char*> options = {target.c_str(),  "-std=c++17",         "-default-device",
                                            include.c_str(), "--ptxas-options=-v", "--no-cache"};
  Program program = nullptr;
  if (nvrtc->create(&program, source.c_str(), "stub.cu", 0, nullptr, nullptr) != 0) return NvrtcResult{};
  NvrtcResult result;
  result.compiled = nvrtc->compile(program, static_cast<int>(options.size()), options.data()) == 0;
  size_t size = 0;
  nvrtc->log_size(program, &size);
  result.log.resize(size);
  nvrtc->log(program, result.log.data());
  nvrtc->destroy(&program);
  return result;
}

std::string complaints(const std::string& log) {
  std::istringstream lines(log);
  std::string found;
  for (std::string line; std::getline(lines, line);) {
    const bool spills = line.find("spill stores") != std::string::npos &&
                        line.find(" 0 bytes spill stores, 0 bytes spill loads") == std::string::npos;
    if (spills || line.find("(C75") != std::string::npos) found += line + "\n";
  }
  return found;
}

}  // namespace harrier::test
