// What a CudaKernel holds, and how arrays go to the device.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "codegen/cuda/kernels/params.cuh"
#include "compiler/harrier_cuda.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/module.h"

namespace harrier {

/// The entries of a backward kernel: codegen/cuda/emit_backward_stub.h and emit_builder.h. Null where there is none.
struct BackwardCode {
  cuda::Function stats = nullptr;
  cuda::Function columns = nullptr;
  cuda::Function rows = nullptr;     // of sm_80's family
  cuda::Function queries = nullptr;  // of sm_90a
  cuda::Function arrays = nullptr;
  cuda::Function join_columns = nullptr;
  cuda::Function join_rows = nullptr;
  cuda::Function transpose_lists = nullptr;
  cuda::Function measure_columns = nullptr;
  cuda::Function cut_columns = nullptr;  // where adds_in_turn(plan); else columns are cut as rows are
  cuda::Function order_columns = nullptr;
  cuda::LaunchShape rows_shape;  // grid_x is the most CTAs that run at a time, as in LoadedCode::shape
  cuda::LaunchShape arrays_shape;
};

/// Machine code on the device, shared by kernels of equal structure.
struct LoadedCode {
  cuda::CudaBinary binary;
  std::string artifact;  // its key in the store; empty where it is not kept
  bool was_cached = false;
  std::unique_ptr<cuda::LoadedModule> module;
  cuda::Function forward = nullptr;
  cuda::Function combine = nullptr;
  std::unique_ptr<cuda::LoadedModule> builder_module;
  cuda::Function build_lists = nullptr;  // null where keys follow from the mask
  cuda::Function measure_rows = nullptr;
  cuda::Function cut_rows = nullptr;
  cuda::Function order_rows = nullptr;
  std::optional<BackwardCode> backward;  // then there is no forward, nor combine
  cuda::LaunchShape shape;               // of the kernel, or of columns; grid_x is the most CTAs that run at a time
};

/// What slows a kernel down and is no error: registers that spill, products that the compiler serialised. Empty where
/// nothing does.
std::string complaint_of(const cuda::CudaBinary& binary);

/// roomier_plan of the workload's direction.
std::optional<CudaPlan> roomier_plan_of(const CudaCompilation& compilation);

/// Where machine code comes from: NVRTC, or what it made for the same structure before.
using CodeSource = std::function<std::shared_ptr<const LoadedCode>(const CudaCompilation&)>;

/// The bytes of it, from wherever somebody keeps them.
using BinarySource = std::function<CudaBinaries(const CudaCompilation&)>;

/// As compile_cuda, with machine code from `find` alone: neither NVRTC nor a store is asked. What `find` throws passes
/// through.
CudaKernel compile_cuda_from(const Workload& workload, const Gpu& gpu, const CudaCompileOptions& options,
                             const BinarySource& find);

/// The machine code that compile_cuda will find in the store for these options, which have no tunings, compiled where
/// it is not there yet. Needs no GPU. Throws as compile_cuda does.
cuda::CudaBinary compile_ahead(const Workload& workload, const CudaTarget& target, const cuda::LazyNvrtc& nvrtc,
                               const CudaCompileOptions& options, const std::string& silicon_key);

struct CudaCode {
  Gpu gpu;
  Workload workload;  // as it was given
  CudaCompileOptions options;
  CodeSource source;
  CudaCompilation compilation;
  std::optional<CudaSchedule> tuned_schedule;  // for lengths near the workload's
  std::shared_ptr<const LoadedCode> loaded;
  std::vector<PassTime> compile_times;
  std::vector<std::string> notes;

  // The same for documents whose ids fall somewhere: compiled when such ids are bound.
  mutable std::mutex mutex;
  mutable std::shared_ptr<const CudaCode> unsorted;
};

/// The schedule of a launch on so many key tokens where the caller wants none of his own: the tuned one where there are
/// about as many as were tuned for, else by the rule.
CudaSchedule schedule_for(const CudaCode& code, const Geometry& geometry);

/// The code for ids of documents that fall somewhere; `code` itself where it is that. Compiles it at most once.
std::shared_ptr<const CudaCode> code_for_unsorted(const std::shared_ptr<const CudaCode>& code);

/// Bytes of several arrays, to be copied to the device at once.
class Upload {
 public:
  /// Where the copy will lie, from the start of the upload.
  template <typename T>
  int64_t add(const T* data, int64_t count) {
    constexpr size_t kAlignment = 256;
    const size_t offset = (bytes_.size() + kAlignment - 1) / kAlignment * kAlignment;
    const size_t size = static_cast<size_t>(count) * sizeof(T);
    bytes_.resize(offset + size);
    const auto* from = reinterpret_cast<const std::byte*>(data);
    std::copy(from, from + size, bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
    return static_cast<int64_t>(offset);
  }

  template <typename T>
  int64_t add(const std::vector<T>& values) {
    return add(values.data(), std::ssize(values));
  }

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace harrier
