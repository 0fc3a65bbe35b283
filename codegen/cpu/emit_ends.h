// The two ends of a row: Q is read and transposed into the scratch, O is scaled, transposed back and written.
#pragma once

#include "codegen/cpu/row_emitter.h"

namespace harrier {

/// Q^T times the pure scale (in base-2 units) into the scratch; statistics and outputs set to their start.
void emit_row_start(RowEmitter& emitter);

/// O = O / row_sum with what the softmax kind adds to the denominator, in the shape's dtype; LSE where asked for.
void emit_row_end(RowEmitter& emitter);

}  // namespace harrier
