// Where the tensors of a launch lie, and what one row of it is handed.
#pragma once

#include <cstdint>

#include "compiler/pipeline.h"
#include "compiler/tensor.h"
#include "ir/launch.h"

namespace harrier {

/// A tensor as (sequence, head, position) -> element, whether it is packed or padded. Strides in elements.
struct Placement {
  char* data = nullptr;
  int64_t element_bytes = 0;
  int64_t batch_stride = 0;
  int64_t head_stride = 0;
  int64_t token_stride = 0;
  bool packed = false;

  /// Null where there is no tensor.
  char* at(int64_t batch, int64_t head, int64_t first_token, int64_t position) const {
    if (data == nullptr) return nullptr;
    const int64_t place =
        packed ? (first_token + position) * token_stride : batch * batch_stride + position * token_stride;
    return data + (place + head * head_stride) * element_bytes;
  }
};

/// Works for tensors with a head dim and for lse, which has none: what follows the token dimension is never strided
/// here.
Placement place(const TensorView& tensor, bool packed, int64_t element_bytes);

/// Dense floats [tokens, heads, dims] in packed token order.
Placement place_floats(float* data, int64_t heads, int64_t dims);

/// The tensors of one call.
struct PlacedTensors {
  Placement q;
  Placement k;
  Placement v;
  Placement out;
  Placement lse;  // no data: not wanted
};

PlacedTensors place_tensors(const AttentionTensors& tensors, const Shape& shape);

/// What the kernel is handed for one row of the schedule.
RowArguments row_arguments(const LaunchState& state, const PlacedTensors& tensors, const ScheduledRow& row,
                           float* scratch);

}  // namespace harrier
