// The public entry to GPUs: compile a workload for one, run it on device tensors or on arrays of the host.
//
//   auto gpu = harrier::open_gpu();
//   auto kernel = harrier::compile_cuda(harrier::parse_workload(text), gpu);
//   auto bound = kernel.bind({{"table", view}}, geometry);       // arrays and lengths, once
//   auto launch = kernel.prepare(tensors, bound);                // addresses, once
//   launch.enqueue(stream);                                      // as often as wanted: no allocation, no
//   synchronisation
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compiler/cuda/cuda_pipeline.h"
#include "compiler/cuda/cuda_schedule.h"
#include "compiler/harrier.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/nvrtc.h"

namespace harrier {

/// A GPU, and the compiler for it.
struct Gpu {
  cuda::DeviceHandle device;
  cuda::Nvrtc nvrtc;
};

struct GpuOptions {
  int ordinal = 0;
  std::string libcuda;   // empty: $HARRIER_LIBCUDA, libcuda.so.1
  std::string libnvrtc;  // empty: $HARRIER_NVRTC, the usual places
};

/// Throws DeviceError (no driver, no GPU, one that is too old) or ToolchainError (no NVRTC).
Gpu open_gpu(const GpuOptions& options = {});

/// What kernels are compiled for on this GPU.
CudaTarget target_of(const Gpu& gpu);

/// One tensor of (batch, token, head, column) on the device, 16-bit elements, columns contiguous, strides in elements.
/// Packed tensors have one batch row of all tokens.
struct CudaTensor {
  cuda::DevicePointer data = 0;
  int64_t batch_stride = 0;
  int64_t token_stride = 0;
  int64_t head_stride = 0;
};

/// float32 (batch, head, token).
struct CudaLse {
  cuda::DevicePointer data = 0;  // 0: not wanted
  int64_t batch_stride = 0;
  int64_t head_stride = 0;
  int64_t token_stride = 1;
};

struct CudaTensors {
  CudaTensor q;
  CudaTensor k;
  CudaTensor v;
  CudaTensor out;
  CudaLse lse = {};
};

struct CudaBindOptions {
  bool packed = true;                         // sequences one after another; false: a padded batch of equal extents
  std::optional<CudaSchedule> schedule = {};  // instead of the default
};

struct CudaCode;   // internal
struct CudaBound;  // internal: a pattern's numbers, arrays, lists and order on the device, for one set of lengths
using CudaBinding = std::shared_ptr<const CudaBound>;

/// Microseconds that building lists and the order of work took on the device.
double build_us(const CudaBinding& binding);

/// A launch with all its addresses. Reads and writes a workspace of its own, so one launch must not run twice at the
/// same time; different ones may.
class CudaLaunch {
 public:
  /// Enqueues the kernel, and the one that joins split rows. About a microsecond of host time; may be captured in a
  /// CUDA graph. The device's context must be current (enqueue_current checks nothing); throws DeviceError.
  void enqueue(cuda::Stream stream) const;

  const CudaSchedule& schedule() const;
  int64_t workspace_bytes() const;
  int grid() const;
  int64_t split_rows() const;  // that are computed in parts and joined

 private:
  friend class CudaKernel;
  struct State;
  explicit CudaLaunch(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

/// A compiled pattern on a GPU. Cheap to copy, immutable, safe to use from several threads at once.
class CudaKernel {
 public:
  /// Checks the arrays (on the host) against the pattern and the lengths, and brings them, lists and the order of work
  /// to the device. Throws InvalidInput, DeviceError.
  CudaBinding bind(const Bindings& bindings, const Geometry& geometry, const CudaBindOptions& options = {}) const;

  /// Throws InvalidInput for addresses and strides that the copy engine cannot read and for memory of the host.
  CudaLaunch prepare(const CudaTensors& tensors, const CudaBinding& binding) const;

  /// As Kernel::run, on arrays of the host: copies them there, runs, copies the results back.
  RunReport run(const AttentionTensors& tensors, const Bindings& bindings, const PassObserver& observer = {},
                const std::optional<CudaSchedule>& schedule = {}) const;

  const CudaCompilation& compilation() const;
  const cuda::CudaBinary& binary() const;
  const std::vector<PassTime>& compile_times() const;  // passes, then "nvrtc", "load"
  const std::vector<std::string>& notes() const;       // why the plan is not the default, and what slows it down

 private:
  friend CudaKernel compile_cuda(const Workload& workload, const Gpu& gpu, const struct CudaCompileOptions& options);
  explicit CudaKernel(std::shared_ptr<const CudaCode> code) : code_(std::move(code)) {}
  std::shared_ptr<const CudaCode> code_;
};

struct CudaCompileOptions {
  std::string architecture = {};      // instead of the GPU's own: "sm_90" on Hopper gives the kernels of sm_80's family
  std::optional<CudaPlan> plan = {};  // instead of the default
  bool use_cache = true;              // NVRTC's own; false when compile time is measured
  std::stop_token stop = {};
  PassObserver observer = {};
};

/// Verifies, emits, compiles, loads. Throws InvalidInput, ToolchainError, DeviceError.
CudaKernel compile_cuda(const Workload& workload, const Gpu& gpu, const CudaCompileOptions& options = {});

/// The kernel, and the kernels that build lists and the order of work.
struct CudaBinaries {
  cuda::CudaBinary kernel;
  cuda::CudaBinary builder;
};

/// Machine code without a GPU: for tests, inspection and export. Throws ToolchainError.
CudaBinaries compile_source(const cuda::Nvrtc& nvrtc, const CudaCompilation& compilation, bool use_cache = true,
                            const std::stop_token& stop = {});

}  // namespace harrier
