// What every well-formed expression, pattern, shape and workload satisfies, before any array is bound.
#pragma once

#include <string>
#include <vector>

#include "ir/workload.h"

namespace harrier {

/// A mask or an expression of more levels than this is refused, by the parser too, so that no walk over a tree runs out
/// of stack. A chain such as a + b + c counts a level for each operator.
inline constexpr int kMaxTreeDepth = 256;

/// Throws InvalidInput with one line: the value, the limit, the remedy.
void verify(const Workload& workload);
void verify(const Shape& shape);
void verify(const Pattern& pattern);
void verify(const Mask& mask);
void verify(const LengthDistribution& distribution);

/// What an array that is bound at launch is for; its shape and element type follow from it (see the node's comment in
/// mask.h, pattern.h).
enum class ArrayRole {
  kGlobalTokens,
  kSegment,
  kBlockTable,
  kBlockOffsets,
  kBlockIndices,
  kRandomBlocks,
  kBits,
  kAlibiSlopes,
  kBias,
  kSinkLogits,
  kExpressionInt,    // loaded in where(...) or in an index
  kExpressionFloat,  // loaded in score(...)
};

/// "segment ids", "block table", ...
const char* name_of(ArrayRole role);

/// True for the floats that scores or the softmax read: what can be learned.
bool has_gradient(ArrayRole role);

struct ArrayUse {
  std::string name;
  ArrayRole role;
  int rank = -1;  // number of indices in expressions; -1: follows from the role
  bool operator==(const ArrayUse&) const = default;
};

/// Every array the pattern names, in order of first appearance, once each. One name used in two roles, or with two
/// ranks, throws InvalidInput (verify() asks, so a verified pattern has none).
std::vector<ArrayUse> array_uses(const Pattern& pattern);

}  // namespace harrier
