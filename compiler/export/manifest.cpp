#include "compiler/export/manifest.h"

#include <nlohmann/json.hpp>

#include "ir/text.h"
#include "store/sha256.h"

namespace harrier {
namespace {

using Json = nlohmann::json;

Json image_json(const cuda::CudaBinary& binary) {
  return {{"bytes", binary.image.size()}, {"sha256", sha256_of(binary.image)}};
}

Json kernel_json(const KernelExport& kernels, const ExportedKernel& kernel) {
  Json json = {{"plan", print(kernel.compilation.plan, kernel.compilation.workload.shape.direction)},
               {"kernel", image_json(kernels.images[kernel.kernel_image])},
               {"builder", image_json(kernels.images[kernel.builder_image])},
               {"notes", kernel.notes}};
  if (kernel.schedule) {
    json["schedule"] = {{"heads_per_group", kernel.schedule->heads_per_group},
                        {"split_tiles", kernel.schedule->split_tiles},
                        {"split_capacity", kernel.schedule->split_capacity}};
  }
  return json;
}

Json target_json(const KernelExport& kernels, const ExportedTarget& target) {
  Json json = {{"architecture", target.architecture}, {"kernels", Json::array()}, {"tree", Json::array()}};
  for (const ExportedKernel& kernel : target.kernels) json["kernels"].push_back(kernel_json(kernels, kernel));
  for (const LengthTreeNode& node : target.tree) {
    json["tree"].push_back({node.dimension, node.limit, node.below, node.above});
  }
  return json;
}

const char* name_of(ExportFormat format) {
  return format == ExportFormat::kC ? "c" : format == ExportFormat::kPack ? "pack" : "fatbin";
}

}  // namespace

std::string manifest_text(const KernelExport& kernels, const ExportOptions& options,
                          const std::vector<ExportedFile>& files) {
  constexpr int kManifestVersion = 1;
  Json json = {{"harrier_export", kManifestVersion},
               {"format", name_of(options.format)},
               {"name", options.name},
               {"files", Json::array()},
               {"workloads", Json::array()}};
  for (const ExportedFile& file : files) json["files"].push_back(file.name);
  for (const ExportedWorkload& workload : kernels.workloads) {
    Json targets = Json::array();
    for (const ExportedTarget& target : workload.targets) targets.push_back(target_json(kernels, target));
    json["workloads"].push_back({{"name", workload.workload.name},
                                 {"pattern", canonical_text(workload.workload.pattern, workload.shape)},
                                 {"targets", targets}});
  }
  return json.dump() + "\n";
}

}  // namespace harrier
