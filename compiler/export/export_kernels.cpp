#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "compiler/export/c_source.h"
#include "compiler/export/fatbin.h"
#include "compiler/export/manifest.h"
#include "compiler/export/pack_file.h"
#include "compiler/harrier_export.h"
#include "ir/error.h"

namespace harrier {
namespace {

void check_name(const std::string& name) {
  const auto fits = [](unsigned char c) { return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '_'; };
  if (!name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) == 0 && std::ranges::all_of(name, fits))
    return;
  throw InvalidInput(fmt::format(
      "the export's name is '{}', expected lower-case letters, digits and _, not starting with a digit: rename it",
      name));
}

ExportReport report_of(const KernelExport& kernels, const std::vector<ExportedFile>& files) {
  ExportReport report;
  for (const ExportedWorkload& workload : kernels.workloads) {
    for (const ExportedTarget& target : workload.targets) {
      for (const ExportedKernel& kernel : target.kernels) {
        const size_t bytes =
            kernels.images[kernel.kernel_image].image.size() + kernels.images[kernel.builder_image].image.size();
        report.kernels.push_back({.workload = workload.workload.name,
                                  .architecture = target.architecture,
                                  .plan = print(kernel.compilation.plan, workload.shape.direction),
                                  .bytes = static_cast<int64_t>(bytes),
                                  .notes = kernel.notes});
      }
    }
  }
  for (const ExportedFile& file : files) report.files.push_back(file.name);
  return report;
}

std::vector<ExportedFile> files_of(const KernelExport& kernels, const ExportOptions& options) {
  switch (options.format) {
    case ExportFormat::kC:
      return c_files(kernels, options.name);
    case ExportFormat::kPack:
      return {pack_file(kernels, options)};
    case ExportFormat::kFatbin:
      return fatbin_files(kernels, options.name);
  }
  raise_internal_error(__FILE__, __LINE__, "every format must be written");
}

}  // namespace

ExportReport export_kernels(const std::vector<ExportWorkload>& workloads, const cuda::Nvrtc& nvrtc,
                            const ExportOptions& options) {
  check_name(options.name);
  const KernelExport kernels = compile_export(workloads, nvrtc, options);
  std::vector<ExportedFile> files = files_of(kernels, options);
  files.push_back({.name = kManifestName, .bytes = manifest_text(kernels, options, files)});
  write_export_folder(options.folder, files);
  return report_of(kernels, files);
}

}  // namespace harrier
