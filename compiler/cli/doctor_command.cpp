// `harrier doctor`: what this machine has, and what to do about what it lacks.
#include <fmt/core.h>
#include <fmt/ostream.h>

#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/json_text.h"
#include "compiler/cpu_backend.h"
#include "compiler/harrier_cuda.h"
#include "ir/error.h"

namespace harrier {
namespace {

/// One thing that was looked for.
struct Finding {
  std::string name;
  bool found = false;
  std::string text;  // what it is, or the error with its remedy
};

template <typename Look>
Finding look_for(const char* name, Look&& look) {
  try {
    return {.name = name, .found = true, .text = look()};
  } catch (const Error& error) {
    return {.name = name, .found = false, .text = error.what()};
  }
}

std::string describe(const cuda::DeviceFacts& facts) {
  constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
  return fmt::format("GPU {}: {}, {} multiprocessors, {:.0f} GiB, kernels for {}", facts.ordinal, facts.name,
                     facts.multiprocessors, static_cast<double>(facts.memory_bytes) / kGib,
                     cuda::architecture_of(facts));
}

std::string describe_cpu() {
  const CpuTarget target = host_target();
  if (target.triple.empty()) {
    throw ToolchainError("this build has no CPU backend (HARRIER_LLVM=OFF): configure with -DHARRIER_LLVM=ON");
  }
  return fmt::format("{}, {} float lanes, {} cores", target.cpu, target.vector_lanes, target.cores);
}

}  // namespace

int doctor_command(const DoctorOptions& options, Streams& streams) {
  std::vector<Finding> findings;
  findings.push_back(look_for("cpu", describe_cpu));
  std::shared_ptr<const cuda::Driver> driver;
  findings.push_back(look_for("driver", [&] {
    driver = cuda::load_driver();
    return fmt::format("{} for CUDA {}.{}", driver->path, driver->version / 1000, driver->version % 1000 / 10);
  }));
  std::vector<cuda::DeviceFacts> devices;
  if (driver) {
    findings.push_back(look_for("gpus", [&] {
      devices = cuda::find_devices(*driver);
      return fmt::format("{}", devices.size());
    }));
  }
  for (const cuda::DeviceFacts& facts : devices) {
    findings.push_back(look_for("gpu", [&] { return describe(facts) + ", key " + cuda::silicon_key(facts); }));
  }
  findings.push_back(look_for("nvrtc", [] {
    const cuda::Nvrtc nvrtc = cuda::load_nvrtc();
    return fmt::format("{} {}.{}", nvrtc.path, nvrtc.major, nvrtc.minor);
  }));

  if (options.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Finding& finding : findings) {
      list.push_back({{"name", finding.name}, {"found", finding.found}, {"text", finding.text}});
    }
    print_json({{"command", "doctor"}, {"findings", list}}, streams.out);
    return kSuccess;
  }
  for (const Finding& finding : findings) {
    fmt::print(streams.out, "{:<8}{:<9}{}\n", finding.name, finding.found ? "found" : "missing", finding.text);
  }
  return kSuccess;
}

}  // namespace harrier
