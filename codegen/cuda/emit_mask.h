// What the sources of the kernels and of the list builder share: the mask of a pattern, and how its keys are found.
#pragma once

#include <string>

#include "ir/cuda_plan.h"
#include "ir/lowered.h"

namespace harrier {

/// How a kernel finds the keys of a row.
enum class CudaKeySource {
  kClosedForm,  // from intervals, without any list
  kLists,       // from lists of key boxes that are built before the launch
};

/// Lists for block tables, and for predicates whose keys no interval bounds on both sides: bit masks, unsorted
/// documents, most of `where`. Inside a window a predicate is asked in every tile of the window instead, without lists.
CudaKeySource key_source_of(const LoweredPattern& lowered);

enum class MaskUse {
  kForward,  // in a kernel: intervals where keys follow from them, else the predicate
  kBuilder,  // in the list builder: both, for intervals bound the boxes for which the predicate is asked
};

/// `struct Mask : NoMask {...};` and an empty line, for a pattern that cuda_pattern gave.
std::string emit_cuda_mask(const LoweredPattern& lowered, const CudaPlan& plan, MaskUse use);

/// Queries of a row.
int row_queries(const CudaPlan& plan);

/// Each line of `text` as a comment.
std::string commented(const std::string& text);

}  // namespace harrier
