// NVRTC: options, logs and images around the host's compiler.
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <optional>

#include "host_compiler.h"
#include "image.h"
#include "state.h"

using namespace harrier::emulated;

struct _nvrtcProgram {
  Program program;
  std::string log;
  std::string image;
  bool is_text = false;
  int (*callback)(void*, void*) = nullptr;
  void* payload = nullptr;
};

namespace {

constexpr int kArchitectures[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};

/// Puts the options into the program. The text of one that NVRTC would not know, or nothing.
std::optional<std::string> take_options(Program& program, int count, const char* const* texts) {
  static const char* const kIgnored[] = {"-default-device",
                                         "--device-as-default-execution-space",
                                         "--no-cache",
                                         "-no-cache",
                                         "--ptxas-options",
                                         "-Xptxas",
                                         "-lineinfo",
                                         "--generate-line-info",
                                         "-diag-suppress",
                                         "--diag-suppress",
                                         "-w",
                                         "--disable-warnings",
                                         "--minimal",
                                         "-minimal",
                                         "--fast-compile",
                                         "-Ofc",
                                         "--extra-device-vectorization",
                                         "--restrict",
                                         "--split-compile",
                                         "--use_fast_math",
                                         "-use_fast_math",
                                         "--fmad",
                                         "-fmad"};
  program.architecture = "compute_75";
  program.options.clear();
  for (int i = 0; i < count; ++i) {
    const std::string text = texts[i];
    const auto value = [&](const char* prefix) {
      return text.rfind(prefix, 0) == 0 ? text.substr(std::strlen(prefix)) : std::string();
    };
    std::string found;
    if (!(found = value("--gpu-architecture=")).empty() || !(found = value("-arch=")).empty()) {
      program.architecture = found;
    } else if (!(found = value("-std=")).empty() || !(found = value("--std=")).empty()) {
      program.options.push_back("-std=" + found);
    } else if (!(found = value("-I")).empty() || !(found = value("--include-path=")).empty()) {
      program.options.push_back("-I" + found);
      program.known_inputs = false;
    } else if (!(found = value("-D")).empty() || !(found = value("--define-macro=")).empty()) {
      program.options.push_back("-D" + found);
    } else {
      bool ignored = false;
      for (const char* known : kIgnored) ignored = ignored || text.rfind(known, 0) == 0;
      if (ignored) continue;
      return text;
    }
  }
  const std::string& name = program.architecture;
  const std::size_t underscore = name.find('_');
  bool supported = false;
  for (const int version : kArchitectures) {
    supported = supported || (underscore != std::string::npos && std::atoi(name.c_str() + underscore + 1) == version);
  }
  if (supported) return std::nullopt;
  return "--gpu-architecture=" + name;
}

}  // namespace

HARRIER_EXPORT nvrtcResult nvrtcVersion(int* major, int* minor) {
  HARRIER_ENTER(Needs::kNothing);
  if (major == nullptr || minor == nullptr) return NVRTC_ERROR_INVALID_INPUT;
  *major = 13;
  *minor = 0;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetNumSupportedArchs(int* count) {
  HARRIER_ENTER(Needs::kNothing);
  *count = static_cast<int>(std::size(kArchitectures));
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetSupportedArchs(int* architectures) {
  HARRIER_ENTER(Needs::kNothing);
  std::copy(std::begin(kArchitectures), std::end(kArchitectures), architectures);
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char* source, const char* name, int headers,
                                              const char* const* header_sources, const char* const* header_names) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr || source == nullptr || headers < 0) return NVRTC_ERROR_INVALID_INPUT;
  *program = new _nvrtcProgram;
  (*program)->program.source = source;
  (*program)->program.name = name == nullptr || *name == '\0' ? "default_program" : name;
  for (int i = 0; i < headers; ++i) (*program)->program.headers[header_names[i]] = header_sources[i];
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcDestroyProgram(nvrtcProgram* program) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr || *program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int count, const char* const* options) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  if (const auto unknown = take_options(program->program, count, options)) {
    program->log = fmt::format("nvrtc: error: invalid value or option {}\n", *unknown);
    return NVRTC_ERROR_INVALID_OPTION;
  }
  if (program->callback != nullptr && program->callback(program->payload, nullptr) != 0) return NVRTC_ERROR_CANCELLED;
  const std::string library = compile_for_host(program->program, program->log);
  if (library.empty()) return NVRTC_ERROR_COMPILATION;
  program->image = write_image({program->program.architecture, library});
  program->is_text = program->program.architecture.rfind("compute_", 0) == 0;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, std::size_t* bytes) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = program->log.size() + 1;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char* log) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(log, program->log.c_str(), program->log.size() + 1);
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, std::size_t* bytes) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = program->is_text ? 0 : program->image.size();
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char* cubin) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr || program->is_text) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(cubin, program->image.data(), program->image.size());
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, std::size_t* bytes) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = program->is_text ? program->image.size() + 1 : 0;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcGetPTX(nvrtcProgram program, char* ptx) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr || !program->is_text) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(ptx, program->image.c_str(), program->image.size() + 1);
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT nvrtcResult nvrtcSetFlowCallback(nvrtcProgram program, int (*callback)(void*, void*), void* payload) {
  HARRIER_ENTER(Needs::kNothing);
  if (program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
  program->callback = callback;
  program->payload = payload;
  return NVRTC_SUCCESS;
}

HARRIER_EXPORT const char* nvrtcGetErrorString(nvrtcResult result) {
  static constexpr const char* kNames[] = {"NVRTC_SUCCESS",
                                           "NVRTC_ERROR_OUT_OF_MEMORY",
                                           "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
                                           "NVRTC_ERROR_INVALID_INPUT",
                                           "NVRTC_ERROR_INVALID_PROGRAM",
                                           "NVRTC_ERROR_INVALID_OPTION",
                                           "NVRTC_ERROR_COMPILATION"};
  if (result == NVRTC_ERROR_CANCELLED) return "NVRTC_ERROR_CANCELLED";
  return result >= 0 && result <= NVRTC_ERROR_COMPILATION ? kNames[result] : "NVRTC_ERROR unknown";
}
