// Which kernel a launch takes, by its lengths.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace harrier {

/// Lengths that kernels were measured at: the longest sequence, and how many (sequence, head) pairs there are.
struct LengthBucket {
  int64_t query_length = 0;
  int64_t key_length = 0;
  int64_t batch_heads = 0;
  bool operator==(const LengthBucket&) const = default;
};

/// dimension 0: query_length, 1: key_length, 2: batch_heads; what is below `limit` goes to node `below`, all else to
/// node `above`. A leaf has dimension -1, and its kernel in `below`. Node 0 is the root.
struct LengthTreeNode {
  int dimension = -1;
  int64_t limit = 0;
  int below = 0;
  int above = 0;
  bool operator==(const LengthTreeNode&) const = default;
};

/// A tree that gives each bucket its kernel, and what lies between or beyond buckets the kernel of one nearby: limits
/// lie at the geometric mean of neighbours. Without buckets it is one leaf, kernel 0. Throws InvalidInput where two
/// equal buckets have different kernels.
std::vector<LengthTreeNode> length_tree(const std::vector<LengthBucket>& buckets, const std::vector<size_t>& kernels);

/// As the exported C code does it.
size_t kernel_for(const std::vector<LengthTreeNode>& tree, const LengthBucket& lengths);

}  // namespace harrier
