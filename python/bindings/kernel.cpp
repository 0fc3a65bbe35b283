// The CPU backend: compile, run, gradients.
#include <fmt/format.h>
#include <nanobind/stl/pair.h>

#include <utility>

#include "bindings.h"
#include "host_call.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace harrier::python {

AttentionTensors host_tensors(const ReadArray& q, const ReadArray& k, const ReadArray& v, Lengths lengths) {
  return {.q = view_tensor("q", q),
          .k = view_tensor("k", k),
          .v = view_tensor("v", v),
          .out = {},
          .lse = {},
          .lengths = std::move(lengths.lengths),
          .key_lengths = std::move(lengths.key_lengths),
          .cu_seqlens = std::move(lengths.cu_seqlens),
          .key_cu_seqlens = std::move(lengths.key_cu_seqlens)};
}

AttentionGradients host_gradients(const BackwardArrays& call) {
  AttentionGradients gradients{.d_out = view_tensor("d_out", call.d_out),
                               .d_q = view_tensor("d_q", call.d_q),
                               .d_k = view_tensor("d_k", call.d_k),
                               .d_v = view_tensor("d_v", call.d_v)};
  for (const auto& [name, array] : call.d_arrays) gradients.arrays[name] = view_tensor("gradient of @" + name, array);
  return gradients;
}

namespace {

std::vector<std::pair<std::string, double>> named_times(const std::vector<PassTime>& passes) {
  std::vector<std::pair<std::string, double>> times;
  for (const PassTime& pass : passes) times.emplace_back(pass.name, pass.microseconds);
  return times;
}

void bind_report(nb::module_& module) {
  nb::class_<RunReport>(module, "RunReport", "What one run did.")
      .def_prop_ro("passes", [](const RunReport& self) { return named_times(self.passes); })
      .def_ro("kernel_us", &RunReport::kernel_us)
      .def_ro("rows", &RunReport::rows)
      .def_ro("split_rows", &RunReport::split_rows)
      .def_prop_ro("full_tiles", [](const RunReport& self) { return self.tiles.full; })
      .def_prop_ro("partial_tiles", [](const RunReport& self) { return self.tiles.partial; })
      .def_prop_ro("empty_tiles", [](const RunReport& self) { return self.tiles.empty; });
}

}  // namespace

void bind_kernel(nb::module_& module) {
  bind_report(module);
  nb::class_<Lengths>(module, "Lengths", "Valid lengths of padded rows, or offsets of packed sequences.")
      .def(nb::init<std::vector<int64_t>, std::vector<int64_t>, std::vector<int64_t>, std::vector<int64_t>>(),
           "lengths"_a, "key_lengths"_a, "cu_seqlens"_a, "key_cu_seqlens"_a);

  nb::class_<Kernel>(module, "CpuKernel", "A workload compiled for this CPU.")
      .def("run", run_on_host<Kernel>, "q"_a, "k"_a, "v"_a, "out"_a, "lse"_a.none(), "lengths"_a, "arrays"_a,
           "Writes out, and lse where it is given.")
      .def("run_backward", run_backward_on_host<Kernel>, "q"_a, "k"_a, "v"_a, "out"_a, "lse"_a, "d_out"_a, "d_q"_a,
           "d_k"_a, "d_v"_a, "d_arrays"_a, "lengths"_a, "arrays"_a,
           "Writes the gradients of q, k, v and of the arrays that d_arrays names.")
      .def_prop_ro("array_names", [](const Kernel& self) { return self.compilation().array_names; })
      .def_prop_ro("compile_times", [](const Kernel& self) { return named_times(self.compile_times()); })
      .def_prop_ro("plan", [](const Kernel& self) { return print(self.compilation().plan); })
      .def("code", &Kernel::llvm_ir, nb::call_guard<nb::gil_scoped_release>(), "The kernel's LLVM IR.");

  nb::class_<Compiler>(module, "CpuCompiler", "Compiles for this CPU, and remembers by structure.")
      .def(
          "__init__",
          [](Compiler* self, int threads) { new (self) Compiler({.target = {}, .threads = threads, .observer = {}}); },
          "threads"_a = 0)
      .def("compile", &Compiler::compile, "workload"_a, nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("compilations", &Compiler::compilations);
}

}  // namespace harrier::python
