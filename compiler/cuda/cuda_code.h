// What a CudaKernel and a CudaBinding hold.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "codegen/cuda/kernels/params.cuh"
#include "compiler/harrier_cuda.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/module.h"

namespace harrier {

struct CudaCode {
  Gpu gpu;
  CudaCompilation compilation;
  cuda::CudaBinary binary;
  std::vector<PassTime> compile_times;
  std::unique_ptr<cuda::LoadedModule> module;
  cuda::Function forward = nullptr;
  cuda::Function combine = nullptr;
  cuda::LaunchShape shape;  // of the forward kernel; grid_x is the most CTAs that run at a time
};

struct CudaBound {
  std::shared_ptr<const CudaCode> code;
  Geometry geometry;
  bool packed = true;
  CudaSchedule schedule;
  BoundPattern pattern;  // on the host
  std::vector<PassTime> times;
  TileCounts tiles;  // of the host's classification
  cuda::DeviceMemory memory;
  // What a launch passes on; addresses point into `memory`.
  PatternArguments arguments{};
  SequenceTable sequences{};
  KeyLists lists{};
  const WorkItem* order = nullptr;
  const int* order_length = nullptr;
  const SplitRow* split_rows = nullptr;
  const int* split_count = nullptr;
  int64_t work_count = 0;
  int64_t split_row_count = 0;
  int64_t split_slots = 0;
  int64_t query_tiles = 0;
  float score_scale = 0;
};

/// Queries of a row.
inline int64_t query_tile_of(const CudaPlan& plan) { return int64_t{64} * plan.consumers; }

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
