// What the checks of forward and backward tensors share.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "compiler/tensor.h"

namespace harrier {

enum class Access { kRead, kWritten };

/// Checks one tensor against what it must be. `layout` names its dimensions ("[tokens, heads, dim]"); one that ends in
/// dim is contiguous there. Throws InvalidInput.
void check_tensor(std::string_view name, const TensorView& tensor, DataType dtype, const std::vector<int64_t>& shape,
                  std::string_view layout, Access access);

}  // namespace harrier
