// Packs, read: kernels without NVRTC.
//
//   const harrier::KernelPack pack = harrier::load_pack("kernels/harrier_kernels.pack");
//   const harrier::PackedKernel packed = harrier::load_kernel(pack, "window", harrier::open_gpu());
//   auto bound = packed.kernel.bind(arrays, geometry, {.schedule = packed.schedule});
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "compiler/export/decision_tree.h"
#include "compiler/harrier_cuda.h"

namespace harrier {

struct PackedPlan {
  CudaPlan plan;
  std::optional<CudaSchedule> schedule = {};
};

struct PackedTarget {
  std::string architecture;
  std::vector<PackedPlan> plans;
  std::vector<LengthTreeNode> tree;  // among the plans
};

struct PackedWorkload {
  Workload workload;                  // without lengths
  std::vector<PackedTarget> targets;  // the best first
};

/// Everything that a pack holds, in memory.
struct KernelPack {
  std::string path;
  std::vector<PackedWorkload> workloads;
  std::map<std::string, CudaBinaries> codes;  // by source_digest
};

/// Reads a pack, which may lie in a folder that cannot be written and be read by many. Every digest is compared. Throws
/// InvalidInput: no such file, no pack, one of another version, one that is damaged.
KernelPack load_pack(const std::string& path);

/// A kernel, and the schedule that it was tuned with, where there is one.
struct PackedKernel {
  CudaKernel kernel;
  std::optional<CudaSchedule> schedule = {};
};

/// The kernel of the workload called `name` for these lengths on this GPU. NVRTC is not looked for; the pack need not
/// live on. Throws InvalidInput: no such workload, or none of its kernels is for this GPU; ToolchainError for a pack
/// that another version of Harrier made; DeviceError.
PackedKernel load_kernel(const KernelPack& pack, const std::string& name, const Gpu& gpu,
                         const LengthBucket& lengths = {});

}  // namespace harrier
