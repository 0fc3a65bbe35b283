// Where the gradients of a launch's float arrays gather, so that rows that work at the same time do not meet and sums
// come out the same however many threads there are.
//
// An array that is loaded once, at the query and the key themselves (a bias), is gathered in place: rows of other
// queries touch other elements. Every other array has a number of copies that depends on the launch alone; row i of the
// schedule adds to copy i % copies, in its turn, and the copies are summed in order at the end.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "compiler/pipeline.h"
#include "compiler/tensor.h"
#include "runtime/cpu/ordered_rows.h"

namespace harrier {

class ArrayGradients {
 public:
  /// `wanted` has passed check_gradients; its memory is set to 0. Both must outlive this.
  ArrayGradients(const LaunchState& state, const std::map<std::string, TensorView>& wanted);

  /// BackwardRowArguments::d_arrays of a row of the schedule.
  float* const* pointers(int64_t row) const {
    return pointers_.data() + (row % copies_) * static_cast<int64_t>(slots_);
  }

  /// What two rows of the schedule have in common.
  SharedMemory shares(int64_t earlier, int64_t later) const;

  /// Sums the copies into the wanted arrays.
  void finish();

 private:
  /// An array that has copies.
  struct Copied {
    size_t slot;
    int64_t elements;
    float* sum;
    std::vector<float> memory = {};  // [copies, elements]
  };

  const LaunchState& state_;
  size_t slots_;
  int64_t copies_ = 1;
  bool shares_pairs_ = false;  // rows of several heads or sequences add to the same elements of a gradient in place
  std::vector<Copied> copied_;
  std::vector<float*> pointers_;  // [copies, slots]
};

}  // namespace harrier
