// The public entry to GPUs: compile a workload for one, run it on device tensors or on arrays of the host.
//
//   auto gpu = harrier::open_gpu();
//   auto kernel = harrier::compile_cuda(harrier::parse_workload(text), gpu);
//   auto bound = kernel.bind({{"table", view}}, geometry);  // arrays and lengths, once
//   auto launch = kernel.prepare(tensors, bound);           // addresses, once
//   launch.enqueue(stream);                                 // as often as wanted: no allocation, no synchronisation
//
// Errors are one line: InvalidInput (the caller's: which tensor or array, the limit, the remedy), DeviceError (no GPU,
// no memory, a failed launch), ToolchainError (NVRTC). After any of them objects and process stay usable, except that a
// kernel's fault on the device takes the device's context along.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compiler/cuda/cuda_pipeline.h"
#include "compiler/cuda/cuda_schedule.h"
#include "compiler/harrier.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/nvrtc.h"
#include "store/store.h"

namespace harrier {

/// A GPU, and the compiler for it. Cheap to copy; the device's primary context lives as long as any copy, kernel,
/// binding or launch.
struct Gpu {
  cuda::DeviceHandle device;
  cuda::LazyNvrtc nvrtc;
};

struct GpuOptions {
  int ordinal = 0;
  std::string libcuda;   // empty: $HARRIER_LIBCUDA, libcuda.so.1
  std::string libnvrtc;  // empty: $HARRIER_NVRTC, the usual places
};

/// Throws DeviceError (no driver, no GPU, one that is too old). That NVRTC is missing shows when it is first needed.
Gpu open_gpu(const GpuOptions& options = {});

/// What kernels are compiled for on this GPU.
CudaTarget target_of(const Gpu& gpu);

/// One tensor of (batch, token, head, column) on the device: elements of the workload's dtype (bf16 or fp16), columns
/// contiguous, strides in elements, so that [tokens, heads, dim], [batch, heads, length, dim] and parts of a fused QKV
/// tensor are all views. The address is a multiple of 16 bytes, strides are multiples of 8 elements. Packed tensors
/// have one batch row of all tokens, and a batch_stride of 0 will do.
struct CudaTensor {
  cuda::DevicePointer data = 0;
  int64_t batch_stride = 0;
  int64_t token_stride = 0;
  int64_t head_stride = 0;
};

/// float32 (batch, head, token): the natural logarithm of the softmax's denominator; minus infinity where a query sees
/// no key. Strides in elements.
struct CudaLse {
  cuda::DevicePointer data = 0;  // 0: not wanted
  int64_t batch_stride = 0;
  int64_t head_stride = 0;
  int64_t token_stride = 1;
};

/// q and out have `heads` heads, k and v `kv_heads`; v and out `value_dim` columns. Not owned: they must live until the
/// last launch on them has run. `out` is written whole, rows past a valid length become zeros.
struct CudaTensors {
  CudaTensor q;
  CudaTensor k;
  CudaTensor v;
  CudaTensor out;
  CudaLse lse = {};
};

/// What a backward launch reads beside the tensors of the forward one, and what it writes, as CudaTensor describes
/// them: d_out and d_q have the shapes of out and q, d_k and d_v those of k and v. Gradients of float arrays are
/// float32, dense, of the array's shape, for those that are wanted.
struct CudaGradients {
  CudaTensor d_out;
  CudaTensor d_q;
  CudaTensor d_k;
  CudaTensor d_v;
  std::map<std::string, cuda::DevicePointer> arrays = {};
};

struct CudaBindOptions {
  bool packed = true;                         // sequences one after another; false: a padded batch of equal extents
  std::optional<CudaSchedule> schedule = {};  // instead of the default
};

/// An array of the pattern on the device, dense and row-major.
struct CudaArray {
  cuda::DevicePointer data = 0;
  ElementType type = ElementType::kInt32;
  std::vector<int64_t> shape = {};
};

/// Lengths and arrays that live on the device and may change there from launch to launch: lists and the order of work
/// are built anew by every launch, on its stream, without the host.
struct CudaDeviceInputs {
  int64_t batch = 0;
  bool packed = true;
  int64_t query_tokens = 0;   // packed: tokens of all sequences at most
  int64_t key_tokens = 0;     // likewise
  int64_t longest_query = 0;  // of a sequence at most; padded: the extent
  int64_t longest_key = 0;
  cuda::DevicePointer cu_query = 0;     // packed: int32 [batch + 1], rising from 0
  cuda::DevicePointer cu_key = 0;       // packed: 0 = as cu_query
  cuda::DevicePointer query_valid = 0;  // padded: int32 [batch], 0 = the extent
  cuda::DevicePointer key_valid = 0;
  std::map<std::string, CudaArray> arrays = {};
};

struct CudaCode;         // internal
struct CudaLaunchState;  // internal
struct CudaBound;        // internal: a pattern's numbers, arrays, lists and order on the device, for one set of lengths
using CudaBinding = std::shared_ptr<const CudaBound>;

/// A binding takes device memory for the arrays it was given, 8 bytes a key token for documents (where each begins and
/// ends), and 16 bytes a sequence. Beside them, 24 bytes for each row (query tile of a head) and for each part that
/// rows may be split into; and 12 bytes a row to measure it, and where keys come from lists 12 more and 4 for every key
/// box that the row may visit: all of them, or those that its block table names. Heads that see the same share these.
///
/// Microseconds that building lists and the order of work took on the device.
double build_us(const CudaBinding& binding);

/// A launch with all its addresses. Reads and writes a workspace of its own, so one launch must not run twice at the
/// same time; different ones may. Keeps its binding alive. The workspace is 256 bytes, and where rows are split, for
/// each query of each of CudaSchedule::split_capacity parts, 4 bytes x (value dim, rounded up to what the kernel
/// computes, + 2).
class CudaLaunch {
 public:
  /// Enqueues the kernel, and the one that joins split rows; before them, where lengths live on the device, the four
  /// that build lists and order. Costs the driver's launches and no more: no allocation, no synchronisation; may be
  /// captured in a CUDA graph. Throws DeviceError; what goes wrong on the device is seen when the stream is waited for.
  ///
  /// Without `rebuild`, lists and order are those that the binding's last launch with it built: for a caller who knows
  /// that lengths and arrays on the device are what they were then, and that this launch comes after it on the device.
  void enqueue(cuda::Stream stream, bool rebuild = true) const;

  const CudaSchedule& schedule() const;
  int64_t workspace_bytes() const;
  int grid() const;            // CTAs that take rows from the order; 0: there is nothing to do
  int64_t split_rows() const;  // that are computed in parts and joined

 private:
  friend class CudaKernel;
  explicit CudaLaunch(std::shared_ptr<CudaLaunchState> state) : state_(std::move(state)) {}
  std::shared_ptr<CudaLaunchState> state_;
};

/// A compiled pattern on a GPU. Cheap to copy, immutable, safe to use from several threads at once.
class CudaKernel {
 public:
  /// Checks the arrays (on the host) against the pattern and the lengths, and brings them, lists and the order of work
  /// to the device; returns when they are there, so that launches on any stream may use them. The arrays need not live
  /// on. Padded batches have equal extents. Ids of documents that fall inside a sequence compile another kernel, once.
  /// Throws InvalidInput, DeviceError, ToolchainError.
  CudaBinding bind(const Bindings& bindings, const Geometry& geometry, const CudaBindOptions& options = {}) const;

  /// As bind, for lengths and arrays on the device: what they hold is not looked at, so ids of documents are compared
  /// key by key, and blocks past a sequence are skipped;
  /// offsets must rise and stay inside their arrays. Takes block tables ([batch or 1, heads or 1, row blocks, key
  /// blocks], uint8, bool, int32 or int64, or their two arrays of offsets and indices), random blocks of bigbird, bits
  /// (uint8, 8 keys a byte), biases, slopes, sink logits (float32) and segment ids (int32). Throws InvalidInput for
  /// what needs the host: global token arrays, arrays of expressions, and tables that are looked up pair by pair.
  CudaBinding bind_on_device(const CudaDeviceInputs& inputs, const CudaBindOptions& options = {}) const;

  /// Checks addresses and strides, allocates the workspace. Tensors are packed or padded as the binding is. Throws
  /// InvalidInput for what the kernel cannot read, for memory of the host or of another GPU, and for a binding of
  /// another kernel; DeviceError.
  CudaLaunch prepare(const CudaTensors& tensors, const CudaBinding& binding) const;

  /// As prepare, for a workload with direction backward: gradients of sum(out * d_out), written whole. `tensors` are
  /// those of the forward launch with what it wrote: `out` and `lse` are read. The workspace is, for each place of a
  /// query tile of each head, 8 bytes a query, on sm_90a 4 x (head dim) bytes a query more; and where columns or rows
  /// are split, their parts in fp32. Throws InvalidInput also for gradients of arrays that have none.
  ///
  /// The last bits of d_q vary from launch to launch on sm_90a, those of gradients of arrays on every GPU; d_k and d_v
  /// do not. With Shape::deterministic d_q does not either: the workspace then has 8 bytes a query tile more on sm_90a,
  /// lists of columns take twice the room, and gradients of arrays are refused.
  CudaLaunch prepare_backward(const CudaTensors& tensors, const CudaGradients& gradients,
                              const CudaBinding& binding) const;

  /// As Kernel::run, on arrays of the host: copies them there, runs, copies the results back. Takes device memory for
  /// q, k, v, out and lse beside that of a binding and a launch, all of it given back at the end.
  RunReport run(const AttentionTensors& tensors, const Bindings& bindings, const PassObserver& observer = {},
                const std::optional<CudaSchedule>& schedule = {}) const;

  /// As Kernel::run_backward, likewise.
  RunReport run_backward(const AttentionTensors& tensors, const AttentionGradients& gradients, const Bindings& bindings,
                         const PassObserver& observer = {}, const std::optional<CudaSchedule>& schedule = {}) const;

  const CudaCompilation& compilation() const;
  const cuda::CudaBinary& binary() const;
  const std::vector<PassTime>& compile_times() const;  // passes, then "nvrtc and load"
  const std::string& artifact() const;                 // the machine code's key in the store; empty where none is used
  bool was_cached() const;                             // the store had it
  const std::vector<std::string>& notes() const;       // why the plan is not the default, and what slows it down

 private:
  friend class CudaCompiler;
  friend CudaKernel compile_cuda(const Workload& workload, const Gpu& gpu, const struct CudaCompileOptions& options);
  friend CudaKernel compile_cuda_from(const Workload& workload, const Gpu& gpu,
                                      const struct CudaCompileOptions& options,
                                      const std::function<struct CudaBinaries(const CudaCompilation&)>& find);
  explicit CudaKernel(std::shared_ptr<const CudaCode> code) : code_(std::move(code)) {}
  std::shared_ptr<const CudaCode> code_;
};

struct CudaCompileOptions {
  std::string architecture = {};      // instead of the GPU's own: "sm_90" on Hopper gives the kernels of sm_80's family
  std::optional<CudaPlan> plan = {};  // instead of the default
  bool use_cache = true;              // NVRTC's own; false when compile time is measured
  std::stop_token stop = {};
  PassObserver observer = {};
  StoreHandle store = {};   // asked for machine code before NVRTC, and given what NVRTC made; null: none
  bool use_tunings = true;  // without a plan of the caller's: the plan and schedule that tuning left in the store
  bool frozen = false;      // nothing is compiled: what the store lacks is an error. HARRIER_FROZEN=1 says it for all
};

/// Verifies, emits, compiles, loads. Throws InvalidInput (also for what CUDA kernels do not do: fp32, say),
/// ToolchainError, DeviceError.
CudaKernel compile_cuda(const Workload& workload, const Gpu& gpu, const CudaCompileOptions& options = {});

/// Compiles for one GPU and remembers by structure: workloads that differ only in numbers (windows, scales, lengths)
/// share machine code, so changing them compiles nothing. Safe for several threads; equal workloads compile once.
class CudaCompiler {
 public:
  explicit CudaCompiler(Gpu gpu, CudaCompileOptions options = {});
  CudaKernel compile(const Workload& workload);
  int64_t compilations() const;  // kernels compiled so far

 private:
  struct Cache;
  Gpu gpu_;
  CudaCompileOptions options_;
  std::shared_ptr<Cache> cache_;
};

/// The kernel, and the kernels that build lists and the order of work.
struct CudaBinaries {
  cuda::CudaBinary kernel;
  cuda::CudaBinary builder;
};

/// Machine code without a GPU: for tests, inspection and export. Throws ToolchainError.
CudaBinaries compile_source(const cuda::Nvrtc& nvrtc, const CudaCompilation& compilation, bool use_cache = true,
                            const std::stop_token& stop = {});

}  // namespace harrier
