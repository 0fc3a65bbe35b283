// What a CudaBinding holds: a pattern's numbers, arrays, lists and order on the device, for one set of lengths.
#pragma once

#include <memory>
#include <vector>

#include "compiler/cuda/build_on_device.h"
#include "compiler/cuda/cuda_code.h"

namespace harrier {

/// Half of kRaggedTokens: coordinates stay in int32.
inline constexpr int64_t kLongestSequence = int64_t{1} << 26;

struct CudaBound {
  std::shared_ptr<const CudaCode> code;
  Geometry geometry;
  bool packed = true;
  CudaSchedule schedule;
  BoundPattern pattern;  // on the host
  std::vector<PassTime> times;
  cuda::DeviceMemory arrays;  // and lengths
  DeviceBuild build;
  BuildState built{};          // as the builder left it; the most that there can be where every launch builds
  BuildState built_columns{};  // likewise, of a backward kernel
  bool builds_anew = false;    // lengths and arrays may change: every launch builds first
  // What a launch passes on; addresses point into `arrays`.
  PatternArguments arguments{};
  SequenceTable sequences{};
  float score_scale = 0;
  float slope = 1;  // of the score in q . k, where the kernels fold it
  float padding_score = 0;
};

/// What a launch's tiles are, in the CPU's tiles: they divide every block size.
TileCounts count_tiles_of(const CudaBound& bound);

/// Numbers of the pattern, as launches pass them on: parameters, the folded scale, what padding adds.
void set_numbers(CudaBound& bound);

}  // namespace harrier
