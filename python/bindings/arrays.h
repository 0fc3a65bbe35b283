// Python's arrays (NumPy, or anything with DLPack) as the views that the compiler takes. Nothing is copied.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <map>
#include <string>

#include "compiler/tensor.h"
#include "ir/geometry.h"

namespace harrier::python {

using ReadArray = nanobind::ndarray<nanobind::ro>;
using WrittenArray = nanobind::ndarray<>;
using ReadArrays = std::map<std::string, ReadArray>;
using WrittenArrays = std::map<std::string, WrittenArray>;

/// float32, float16, bfloat16; uint16 counts as the bits of bfloat16, which NumPy lacks. Throws InvalidInput for other
/// types, and for memory that is not the host's.
TensorView view_tensor(const std::string& name, const ReadArray& array);
TensorView view_tensor(const std::string& name, const WrittenArray& array);

/// Arrays by name, dense and row-major. Throws InvalidInput.
Bindings view_bindings(const ReadArrays& arrays);

}  // namespace harrier::python
