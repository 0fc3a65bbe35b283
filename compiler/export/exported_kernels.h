// An export before it is written in any form: machine code, and what a launcher must know of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codegen/cuda/kernels/build_params.cuh"
#include "compiler/harrier_cuda.h"
#include "compiler/harrier_export.h"

namespace harrier {

/// How an array that kernels load is checked and where its elements lie, as bind_on_device has it.
enum class ExportedRole { kBits, kBias, kSegment, kPerHead };

/// Which kernel makes its gradient: none, one of its own for what scores load, the first for a sink's logit.
enum class ExportedGradient { kNone, kOfLoads, kOfSink };

struct ExportedArray {
  std::string name;
  ExportedRole role;
  unsigned head_dimensions = 0;  // bit i: the mask reads it at its head in dimension i
  ExportedGradient gradient = ExportedGradient::kNone;
};

struct ExportedTable {
  TableKind kind = TableKind::kNone;
  std::string data = {};  // empty: none
  std::string offsets = {};
  int block = 0;
  int random = 0;
  bool counted = false;
};

/// Code of the same plan for documents whose ids do not fall inside a sequence.
struct ExportedSorted {
  CudaCompilation compilation;
  size_t kernel_image = 0;
  size_t builder_image = 0;
};

struct ExportedKernel {
  CudaCompilation compilation;
  std::optional<CudaSchedule> schedule;
  size_t kernel_image = 0;  // of KernelExport::images
  size_t builder_image = 0;
  std::vector<std::string> notes;
  std::optional<ExportedSorted> sorted;  // in packs, where it differs
};

struct ExportedTarget {
  std::string architecture;
  std::vector<ExportedKernel> kernels;
  std::vector<LengthTreeNode> tree;  // among the kernels
};

/// Behind the shape is what C launchers are told; packs leave it empty, for the library binds by itself.
struct ExportedWorkload {
  Workload workload;
  Shape shape;
  std::vector<int> integers = {};  // as launches pass them on
  std::vector<float> floats = {};
  float padding_score = 0;
  bool pruned_as_zero = false;
  std::vector<ExportedArray> arrays = {};  // in slot order
  ExportedTable table = {};
  std::vector<ExportedTarget> targets = {};  // exact ones first, then newer before older, text last
};

struct KernelExport {
  std::vector<cuda::CudaBinary> images;  // each once
  std::vector<ExportedWorkload> workloads;
};

/// "sm_90a, 128x128 in boxes of 128, ..."
std::string describe(const ExportedKernel& kernel);

/// BackwardParams::slope of the kernel; times log2(e), the score_scale of either direction.
float slope_of(const ExportedKernel& kernel, const ExportedWorkload& workload);

/// Fills all but the targets. Throws InvalidInput for a pattern that needs the host to bind its arrays.
ExportedWorkload describe_workload(const CudaCompilation& compilation);

/// Chooses, compiles, describes. Throws InvalidInput, ToolchainError.
KernelExport compile_export(const std::vector<ExportWorkload>& workloads, const cuda::Nvrtc& nvrtc,
                            const ExportOptions& options);

}  // namespace harrier
