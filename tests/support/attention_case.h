// One attention call checked whole: kernel against the double-precision oracle, with poison around and inside the
// buffers.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>

#include "compiler/harrier.h"
#include "ir/geometry.h"
#include "ir/workload.h"

namespace harrier {

/// How q, k, v and out lie in memory.
enum class LayoutKind {
  kPacked,           // [tokens, heads, dim], gaps between tokens
  kBatchHeadLength,  // [batch, heads, length, dim]
  kBatchLengthHead,  // [batch, length, heads, dim] seen as [batch, heads, length, dim]
};

const char* name_of(LayoutKind layout);

struct AttentionCase {
  Workload workload;
  Geometry geometry;
  LayoutKind layout = LayoutKind::kPacked;
  uint64_t seed = 0;
  Bindings arrays = {};  // instead of random ones, where the pattern names arrays
};

/// Largest errors of O and LSE, relative to max(1, |expected|); infinity where an element was not written or the poison
/// came through.
struct AttentionErrors {
  double out = 0;
  double lse = 0;
  bool canaries_intact = true;
};

/// Runs the case on `kernel` with random tensors (NaN in every element that the semantics say is never read) and random
/// arrays.
AttentionErrors run_case(const AttentionCase& test, const Kernel& kernel);

/// The same, whatever runs it.
using RunAttention = std::function<void(const AttentionTensors&, const Bindings&)>;
AttentionErrors run_case(const AttentionCase& test, const RunAttention& run);

/// What rounding to the workload's dtype alone may cost.
double tolerance_of(DataType dtype);

/// One line that tells the case apart in a failure.
std::string describe(const AttentionCase& test);

/// A padded batch: one extent, a valid length for each row.
Geometry padded_geometry(int64_t length, const std::vector<int64_t>& valid_lengths);

}  // namespace harrier
