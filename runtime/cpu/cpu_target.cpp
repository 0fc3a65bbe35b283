#include "runtime/cpu/cpu_target.h"

#include <llvm/ADT/StringMap.h>
#include <llvm/TargetParser/Host.h>
#include <llvm/TargetParser/SubtargetFeature.h>

#include <map>
#include <string>

#include "runtime/cpu/core_count.h"

namespace harrier {

CpuTarget host_cpu_target() {
  CpuTarget target;
  target.triple = llvm::sys::getProcessTriple();
  target.cpu = llvm::sys::getHostCPUName().str();
  const llvm::StringMap<bool> host_features = llvm::sys::getHostCPUFeatures();
  // Sorted: the map's order is no order, and this text goes into keys.
  std::map<std::string, bool> sorted;
  for (const auto& feature : host_features) sorted[feature.first().str()] = feature.second;
  llvm::SubtargetFeatures features;
  for (const auto& [name, enabled] : sorted) features.AddFeature(name, enabled);
  target.features = features.getString();

  const auto has = [&](const char* name) { return host_features.lookup(name); };
  if (has("avx512f") && has("avx512vl") && has("avx512dq") && has("avx512bw")) {
    target.vector_lanes = 16;
    target.vector_registers = 32;
  } else if (has("avx2") && has("fma")) {
    target.vector_lanes = 8;
    target.vector_registers = 16;
  } else {
    target.vector_lanes = 4;
    target.vector_registers = has("neon") ? 32 : 16;
  }
  target.cores = usable_cores();
  return target;
}

}  // namespace harrier
