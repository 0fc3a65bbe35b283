// NVRTC, where this machine has it: compiles sources to cubins without a GPU.
#pragma once

#include <optional>
#include <string>

namespace harrier::test {

struct NvrtcResult {
  bool compiled = false;
  std::string log;
};

/// Nothing when no libnvrtc is found. `architecture` is sm_90a, say.
std::optional<NvrtcResult> compile_with_nvrtc(const std::string& source, const std::string& architecture);

/// The log's lines that speak of spills or of serialised warpgroup products (C7510 to C7519).
std::string complaints(const std::string& log);

}  // namespace harrier::test
