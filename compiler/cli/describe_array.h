// Says in words what an array that a pattern binds must look like.
#pragma once

#include <string>

#include "ir/pattern.h"
#include "ir/verify.h"
#include "ir/workload.h"

namespace harrier {

/// "integers [12 or 1, row blocks, key blocks] of 64"; follows from the role and from the node that names the array.
std::string describe_array(const ArrayUse& use, const Pattern& pattern, const Shape& shape);

}  // namespace harrier
