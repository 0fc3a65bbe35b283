// Checks of what a backward call reads and writes.
#pragma once

#include "compiler/tensor.h"
#include "ir/geometry.h"
#include "ir/pattern.h"

namespace harrier {

/// True when an element of one may lie on an element of the other. Never false where one does; true for few views that
/// only look interleaved (gradients of q, k and v in one packed tensor are told apart).
bool may_share_memory(const TensorView& left, const TensorView& right);

/// `tensors` have passed check_tensors. Throws InvalidInput: a missing LSE or gradient, one of another shape or type
/// than its tensor, gradients that lie on each other or on what is read, a gradient of an array that has none.
void check_gradients(const AttentionGradients& gradients, const AttentionTensors& tensors, const Pattern& pattern,
                     const Bindings& bindings);

}  // namespace harrier
