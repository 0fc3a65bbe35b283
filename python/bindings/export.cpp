// Kernels compiled ahead of time.
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <tuple>
#include <vector>

#include "bindings.h"
#include "compiler/harrier_export.h"
#include "ir/error.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace harrier::python {
namespace {

ExportFormat format_named(const std::string& name) {
  if (name == "c") return ExportFormat::kC;
  if (name == "pack") return ExportFormat::kPack;
  if (name == "fatbin") return ExportFormat::kFatbin;
  throw InvalidInput("format is '" + name + "', expected 'c', 'pack' or 'fatbin'");
}

/// (workload, architecture, plan, bytes, notes)
using ExportedKernel = std::tuple<std::string, std::string, std::string, int64_t, std::vector<std::string>>;

/// Names of the files, and what is in them.
std::tuple<std::vector<std::string>, std::vector<ExportedKernel>> export_workloads(
    const std::vector<Workload>& workloads, const std::vector<std::string>& architectures, const std::string& format,
    const std::string& folder, const std::string& name) {
  std::vector<ExportWorkload> exported;
  for (const Workload& workload : workloads) exported.push_back({.workload = workload});
  const ExportReport report =
      export_kernels(exported, cuda::load_nvrtc(),
                     {.architectures = architectures, .format = format_named(format), .folder = folder, .name = name});
  std::vector<ExportedKernel> kernels;
  for (const ExportedKernelReport& kernel : report.kernels) {
    kernels.emplace_back(kernel.workload, kernel.architecture, kernel.plan, kernel.bytes, kernel.notes);
  }
  return {report.files, kernels};
}

}  // namespace

void bind_export(nb::module_& module) {
  module.def("export", export_workloads, "workloads"_a, "architectures"_a, "format"_a, "folder"_a, "name"_a,
             nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace harrier::python
