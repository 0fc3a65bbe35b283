// The gradients of a run: the one of the output, read or drawn, and those to be computed.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/npy.h"
#include "cli/run_inputs.h"
#include "compiler/tensor.h"

namespace harrier {

/// Owns what `views` points at; moving it keeps them valid.
struct RunGradients {
  NpyArray d_out;
  std::vector<std::pair<std::string, NpyArray>> computed;  // "d_q", "d_k", "d_v", then "d_NAME" of each float array
  AttentionGradients views;
};

/// d_out from --d-out, else drawn from the seed (a note of `inputs` says so); memory for the gradients of q, k, v and
/// of every float array that the scores or the softmax of the workload read.
RunGradients make_run_gradients(const RunOptions& options, const Workload& workload, RunInputs& inputs);

/// "grad_" and "d_q": grad_d_q.npy
std::string gradient_path(const std::string& prefix, const std::string& name);

/// A long run must not end in a path that cannot be written. Nothing is left behind.
void check_gradients_can_be_written(const RunOptions& options, const RunGradients& gradients);

/// The files of --expect-gradients that are there, as float32; at least one must be.
std::vector<std::pair<std::string, NpyArray>> read_expected_gradients(const RunOptions& options,
                                                                      const RunGradients& gradients);

/// What was computed, as float32.
std::vector<std::pair<std::string, NpyArray>> gradients_as_float(RunGradients& gradients);

}  // namespace harrier
