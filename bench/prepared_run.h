// A workload with everything that a run of it needs: tensors of random values, arrays, the compiled kernel.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "compiler/harrier.h"

namespace harrier::bench {

/// Cores that this process may run on.
int usable_cores();

/// Values in [-1, 1), the same for the same seed.
std::vector<float> random_floats(int64_t count, uint64_t seed);

/// The text of bench/workloads/NAME.attn.
std::string workload_text(const std::string& name);

/// Segment ids of one sequence of `length` tokens, cut by a trace of real document lengths.
std::vector<int32_t> document_segments(int64_t length);

/// One call in the workload's direction, on one padded batch of `batch` equally long sequences. Not copied or moved:
/// the tensors point into it.
class PreparedRun {
 public:
  PreparedRun(const Workload& workload, int64_t length, int threads);
  PreparedRun(const PreparedRun&) = delete;
  PreparedRun& operator=(const PreparedRun&) = delete;

  RunReport run() const;

  /// For each visible pair 2 x (head_dim + value_dim), backward 2 x (3 x head_dim + 2 x value_dim).
  double useful_flops() const;

 private:
  void bind_arrays(int64_t length);
  void prepare_backward(int64_t length, int threads);

  Workload workload_;
  Kernel kernel_;
  std::vector<float> q_;
  std::vector<float> k_;
  std::vector<float> v_;
  std::vector<float> out_;
  // Of a backward call: what the forward call left, and the gradients.
  std::vector<float> lse_;
  std::vector<float> d_out_;
  std::vector<float> d_q_;
  std::vector<float> d_k_;
  std::vector<float> d_v_;
  std::list<std::vector<int32_t>> integers_;  // a list: the bindings point into its elements
  AttentionTensors tensors_;
  AttentionGradients gradients_;
  Bindings bindings_;
};

}  // namespace harrier::bench
