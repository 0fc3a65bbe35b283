// Checks the arrays of a launch against the pattern and its geometry, and prepares what classification and kernels
// read.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ir/geometry.h"
#include "ir/launch.h"
#include "ir/lowered.h"
#include "ir/workload.h"

namespace harrier {

/// Key blocks of each row block, sorted, each once, with its multiplicity. One for each head (or one for all), for each
/// batch row (or one for all). Row r of (batch, head) is entries [offsets[r'], offsets[r' + 1]), r' = ((batch %
/// batches) * heads + head % heads) * row_blocks + r.
struct BlockLists {
  int64_t size = 0;
  int64_t batches = 1;
  int64_t heads = 1;
  int64_t row_blocks = 0;
  std::vector<int64_t> offsets = {};
  std::vector<int32_t> blocks = {};
  std::vector<int32_t> counts = {};
};

/// Global tokens of each sequence, sorted, each once.
struct TokenLists {
  std::vector<int64_t> offsets;  // [batch + 1]
  std::vector<int32_t> tokens;
};

/// All that a launch needs beside q, k, v. Owns copies where the form had to change; otherwise points into the caller's
/// arrays, which must outlive it.
struct BoundPattern {
  std::vector<BoundArray> arrays;       // one for each LoweredPattern::arrays
  std::vector<int64_t> array_elements;  // how many elements each of them has
  std::vector<int32_t> int_parameters;
  std::vector<float> float_parameters;
  std::vector<BlockLists> tables;                  // one for each block atom, in order of appearance (slot order)
  std::map<std::string, TokenLists> tokens;        // by array name
  std::map<std::string, const int32_t*> segments;  // by array name: int32 [key_tokens]
  // Every bound array, dense, converted to int32 / uint8 / float32 where needed. Bits (packed, as the kernel reads
  // them) and bias have all four dimensions, 1 where they broadcast; the others have the caller's shape.
  std::map<std::string, ArrayView> views;
  std::map<std::string, std::pair<int32_t, int32_t>> int_extremes;  // least and largest element of expression arrays
  std::vector<std::shared_ptr<void>> owned;
};

/// What of `bindings` the simplified pattern still names. An array that simplifying made needless (`written` names all
/// of the pattern as written) may be bound all the same; a name that was never in the pattern stays, for bind to
/// refuse.
Bindings without_needless(const Pattern& simplified, const std::vector<std::string>& written, Bindings bindings);

/// Throws InvalidInput (one line: array, value, limit, remedy) for: unbound or extra names, wrong rank, shape or
/// element type, numbers out of range (block indices, tokens, negative counts), NaN in float arrays, an expression
/// index that cannot be proved in range.
BoundPattern bind(const Pattern& pattern, const Shape& shape, const LoweredPattern& lowered, const Geometry& geometry,
                  const Bindings& bindings);

}  // namespace harrier
