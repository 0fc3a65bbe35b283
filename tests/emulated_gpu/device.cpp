#include "device.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace harrier::test {

void check(CUresult result) {
  if (result == CUDA_SUCCESS) return;
  const char* name = nullptr;
  cuGetErrorName(result, &name);
  throw std::runtime_error(name == nullptr ? "an error without a name" : name);
}

Context::Context() {
  check(cuInit(0));
  CUcontext context = nullptr;
  check(cuDevicePrimaryCtxRetain(&context, 0));
  check(cuCtxSetCurrent(context));
}

Context::~Context() {
  cuCtxSetCurrent(nullptr);
  cuDevicePrimaryCtxRelease_v2(0);
}

Compiled compile(const std::string& source, const std::string& architecture) {
  std::vector<std::string> names, texts;
  for (const auto& entry : std::filesystem::directory_iterator(HARRIER_SOURCE_DIR "/codegen/cuda/kernels")) {
    names.push_back("codegen/cuda/kernels/" + entry.path().filename().string());
    std::ifstream file(entry.path());
    std::ostringstream text;
    text << file.rdbuf();
    texts.push_back(text.str());
  }
  std::vector<const char*> name_pointers, text_pointers;
  for (const std::string& name : names) name_pointers.push_back(name.c_str());
  for (const std::string& text : texts) text_pointers.push_back(text.c_str());
  nvrtcProgram program = nullptr;
  nvrtcCreateProgram(&program, source.c_str(), "test.cu", static_cast<int>(names.size()), text_pointers.data(),
                     name_pointers.data());
  const std::string option = "--gpu-architecture=" + architecture;
  const char* options[] = {option.c_str(), "-std=c++17", "-default-device"};
  Compiled compiled{nvrtcCompileProgram(program, 3, options), "", ""};
  std::size_t bytes = 0;
  nvrtcGetProgramLogSize(program, &bytes);
  compiled.log.resize(bytes);
  nvrtcGetProgramLog(program, compiled.log.data());
  const bool text = architecture.rfind("compute_", 0) == 0;
  if (compiled.result == NVRTC_SUCCESS) {
    text ? nvrtcGetPTXSize(program, &bytes) : nvrtcGetCUBINSize(program, &bytes);
    compiled.image.resize(bytes);
    text ? nvrtcGetPTX(program, compiled.image.data()) : nvrtcGetCUBIN(program, compiled.image.data());
  }
  nvrtcDestroyProgram(&program);
  return compiled;
}

Module::Module(const std::string& source, const std::string& architecture) {
  const Compiled compiled = compile(source, architecture);
  if (compiled.result != NVRTC_SUCCESS) throw std::runtime_error(compiled.log);
  check(cuModuleLoadData(&module_, compiled.image.data()));
}

Module::~Module() { cuModuleUnload(module_); }

CUfunction Module::kernel(const std::string& name) const {
  CUfunction function = nullptr;
  check(cuModuleGetFunction(&function, module_, name.c_str()));
  return function;
}

}  // namespace harrier::test
