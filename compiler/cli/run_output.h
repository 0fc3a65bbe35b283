// What a run leaves behind: merged with an earlier output, compared with a reference.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/npy.h"

namespace harrier {

/// Reads an array of any float type as float32; refuses another shape than `shape`, the output's. `option` is for
/// messages.
NpyArray read_output_like(const std::vector<int64_t>& shape, const std::string& option, const std::string& path);

/// Rows of `out` with no visible key (LSE of minus infinity) take the rows of `earlier`. All arrays are float32, `lse`
/// being `out` without its last dimension.
void keep_hidden_rows(NpyArray& out, const NpyArray& lse, const NpyArray& earlier);

struct Comparison {
  double max_error = 0;     // largest |actual - expected| / max(1, |expected|); infinite for NaN on one side only
  std::vector<int64_t> at;  // where; empty when there is no element
};

/// Compares two float32 arrays of one shape.
Comparison compare(const NpyArray& out, const NpyArray& expected);

}  // namespace harrier
