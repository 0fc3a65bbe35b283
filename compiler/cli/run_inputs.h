// The tensors and arrays of a run: read from files, or drawn from a seed.
#pragma once

#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/npy.h"
#include "cli/workload_file.h"
#include "compiler/tensor.h"
#include "ir/workload.h"

namespace harrier {

/// Owns what `tensors` and the bindings point at; moving it keeps them valid.
struct RunInputs {
  NpyArray q;
  NpyArray k;
  NpyArray v;
  NpyArray out;  // of the workload's dtype, to be written
  NpyArray lse;  // float32, to be written
  AttentionTensors tensors;
  NamedArrays arrays;
  std::vector<std::string> notes;  // what was converted or drawn at random
};

/// With --q, --k and --v: reads them, converting other float types to the workload's dtype. With none of them: a packed
/// batch with lengths of the workload's distribution, uniform values of variance 1, and arrays for unbound names.
RunInputs make_run_inputs(const RunOptions& options, const Workload& workload);

/// A dense array of the file's, of elements that are in `dtype` already. It must outlive the view.
TensorView view_of(NpyArray& array, DataType dtype);

/// Uniform values of mean 0 and variance 1.
NpyArray draw_tensor(std::vector<int64_t> dimensions, DataType dtype, uint64_t seed);

}  // namespace harrier
