// What verify says of a plan.
#pragma once

#include <string>

#include "ir/cuda_plan.h"
#include "ir/error.h"

namespace harrier::test {

inline std::string refusal(const CudaPlan& plan, const Shape& shape) {
  try {
    verify(plan, shape);
  } catch (const InvalidInput& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace harrier::test
