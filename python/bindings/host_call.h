// One attention call on arrays of the host, forward or backward, as Python hands it over.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <utility>
#include <vector>

#include "arrays.h"
#include "compiler/harrier.h"

namespace harrier::python {

/// Lengths of a call: those of padded rows, or offsets of packed sequences.
struct Lengths {
  std::vector<int64_t> lengths;
  std::vector<int64_t> key_lengths;
  std::vector<int64_t> cu_seqlens;
  std::vector<int64_t> key_cu_seqlens;
};

AttentionTensors host_tensors(const ReadArray& q, const ReadArray& k, const ReadArray& v, Lengths lengths);

/// `run` on any kernel that runs on arrays of the host, without the interpreter's lock.
template <typename AnyKernel>
RunReport run_on_host(const AnyKernel& kernel, const ReadArray& q, const ReadArray& k, const ReadArray& v,
                      const WrittenArray& out, const std::optional<WrittenArray>& lse, Lengths lengths,
                      const ReadArrays& arrays) {
  AttentionTensors tensors = host_tensors(q, k, v, std::move(lengths));
  tensors.out = view_tensor("out", out);
  if (lse) tensors.lse = view_tensor("lse", *lse);
  const Bindings bindings = view_bindings(arrays);
  const nanobind::gil_scoped_release unlocked;
  return kernel.run(tensors, bindings);
}

/// What a backward call reads and writes beside q, k and v.
struct BackwardArrays {
  ReadArray out;
  ReadArray lse;
  ReadArray d_out;
  WrittenArray d_q;
  WrittenArray d_k;
  WrittenArray d_v;
  WrittenArrays d_arrays;
};

AttentionGradients host_gradients(const BackwardArrays& call);

/// `run_backward`, likewise.
template <typename AnyKernel>
RunReport run_backward_on_host(const AnyKernel& kernel, const ReadArray& q, const ReadArray& k, const ReadArray& v,
                               ReadArray out, ReadArray lse, ReadArray d_out, WrittenArray d_q, WrittenArray d_k,
                               WrittenArray d_v, WrittenArrays d_arrays, Lengths lengths, const ReadArrays& arrays) {
  const BackwardArrays call{.out = std::move(out),
                            .lse = std::move(lse),
                            .d_out = std::move(d_out),
                            .d_q = std::move(d_q),
                            .d_k = std::move(d_k),
                            .d_v = std::move(d_v),
                            .d_arrays = std::move(d_arrays)};
  AttentionTensors tensors = host_tensors(q, k, v, std::move(lengths));
  tensors.out = view_tensor("out", call.out);
  tensors.lse = view_tensor("lse", call.lse);
  const AttentionGradients gradients = host_gradients(call);
  const Bindings bindings = view_bindings(arrays);
  const nanobind::gil_scoped_release unlocked;
  return kernel.run_backward(tensors, gradients, bindings);
}

}  // namespace harrier::python
