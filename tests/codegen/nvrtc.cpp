#include "nvrtc.h"

#include <sstream>
#include <vector>

#include "codegen/cuda/kernel_files.h"
#include "ir/error.h"
#include "runtime/cuda/nvrtc.h"

namespace harrier::test {
namespace {

std::optional<cuda::Nvrtc> open_nvrtc() {
  try {
    return cuda::load_nvrtc();
  } catch (const ToolchainError&) {
    return std::nullopt;
  }
}

}  // namespace

std::optional<NvrtcResult> compile_with_nvrtc(const std::string& source, const std::string& architecture) {
  static const std::optional<cuda::Nvrtc> nvrtc = open_nvrtc();
  if (!nvrtc) return std::nullopt;
  std::vector<cuda::IncludedFile> includes;
  for (const KernelFile& file : kernel_files()) includes.push_back({.name = file.name, .text = file.text});
  try {
    const cuda::CudaBinary binary = cuda::compile(
        *nvrtc, {.text = source, .includes = includes, .architecture = architecture, .use_cache = false, .stop = {}});
    return NvrtcResult{.compiled = true, .log = binary.log};
  } catch (const ToolchainError& error) {
    return NvrtcResult{.compiled = false, .log = error.log()};
  }
}

std::string complaints(const std::string& log) {
  std::ostringstream found;
  for (const cuda::EntryUse& entry : cuda::entries_of_log(log)) {
    if (entry.spill_bytes > 0) found << entry.name << " spills " << entry.spill_bytes << " bytes\n";
  }
  for (const std::string& note : cuda::notes_of_log(log)) found << note << "\n";
  return found.str();
}

}  // namespace harrier::test
