#include "compiler/export/pack.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "autotune/candidate_text.h"
#include "compiler/cuda/cuda_code.h"
#include "compiler/export/pack_file.h"
#include "ir/error.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "store/sha256.h"
#include "store/sqlite.h"

namespace harrier {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse_pack(const std::string& path, const std::string& what) {
  throw InvalidInput(fmt::format("{}: {}: `harrier export --format pack` makes a new one", path, what));
}

cuda::CudaBinary image_of(const std::string& path, const std::string& digest, std::vector<char> bytes,
                          const std::string& facts) {
  if (sha256_of(bytes) != digest)
    refuse_pack(path, fmt::format("image {} does not have the SHA-256 that names it", digest));
  cuda::CudaBinary binary;
  binary.image = std::move(bytes);
  const Json json = Json::parse(facts);
  for (const Json& entry : json.at("entries")) {
    binary.entries.push_back({.name = entry.at(0).get<std::string>(),
                              .registers = entry.at(1).get<int>(),
                              .stack_bytes = entry.at(2).get<int>(),
                              .spill_bytes = entry.at(3).get<int>()});
  }
  binary.notes = json.at("notes").get<std::vector<std::string>>();
  return binary;
}

class PackReader {
 public:
  explicit PackReader(const std::string& path) : database_(path, sqlite::OpenMode::kImmutable), path_(path) {}

  KernelPack read() {
    if (database_.integer("PRAGMA application_id") != kPackApplication)
      refuse_pack(path_, "it is no pack of Harrier's");
    if (const int64_t version = database_.integer("PRAGMA user_version"); version != kPackVersion) {
      refuse_pack(path_, fmt::format("it is a pack of version {}, this Harrier reads {}", version, kPackVersion));
    }
    sqlite::Rows images = database_.query("SELECT sha256, bytes, facts FROM image");
    while (images.next()) {
      const std::string digest = images.text(0);
      images_[digest] = image_of(path_, digest, images.bytes(1), images.text(2));
    }
    const std::string text = database_.text("SELECT text FROM manifest");
    if (sha256_of(text) != database_.text("SELECT sha256 FROM manifest")) {
      refuse_pack(path_, "its manifest does not have its SHA-256");
    }
    pack_.path = path_;
    const Json manifest = Json::parse(text);
    for (const Json& workload : manifest.at("workloads")) read_workload(workload);
    return std::move(pack_);
  }

 private:
  void read_workload(const Json& json) {
    PackedWorkload packed{.workload = parse_workload(json.at("text").get<std::string>()), .targets = {}};
    verify(packed.workload);
    for (const Json& target : json.at("targets")) packed.targets.push_back(read_target(target));
    pack_.workloads.push_back(std::move(packed));
  }

  PackedTarget read_target(const Json& json) {
    PackedTarget target{.architecture = json.at("architecture").get<std::string>(), .plans = {}, .tree = {}};
    for (const Json& kernel : json.at("kernels")) {
      const auto choice = autotune::choice_of(kernel.at("choice").get<std::string>());
      if (!choice) refuse_pack(path_, "it has a plan that this Harrier does not know");
      target.plans.push_back({.plan = choice->plan, .schedule = choice->schedule});
      for (const Json& code : kernel.at("codes")) {
        pack_.codes[code.at("source").get<std::string>()] = {.kernel = image(code.at("kernel").get<std::string>()),
                                                             .builder = image(code.at("builder").get<std::string>())};
      }
    }
    for (const Json& node : json.at("tree")) {
      target.tree.push_back({.dimension = node.at(0).get<int>(),
                             .limit = node.at(1).get<int64_t>(),
                             .below = node.at(2).get<int>(),
                             .above = node.at(3).get<int>()});
    }
    return target;
  }

  const cuda::CudaBinary& image(const std::string& digest) const {
    const auto found = images_.find(digest);
    if (found == images_.end())
      refuse_pack(path_, fmt::format("its manifest names image {}, which is not there", digest));
    return found->second;
  }

  sqlite::Database database_;
  std::string path_;
  std::map<std::string, cuda::CudaBinary> images_;
  KernelPack pack_;
};

bool fits(const std::string& architecture, const cuda::DeviceFacts& facts) {
  const int version = std::atoi(architecture.c_str() + architecture.find('_') + 1);
  const int device = 10 * facts.capability_major + facts.capability_minor;
  if (architecture.ends_with('a')) return version == device;
  if (architecture.starts_with("compute_")) return version <= device;
  return version / 10 == facts.capability_major && version <= device;
}

}  // namespace

KernelPack load_pack(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) refuse_pack(path, "no such file");
  try {
    return PackReader(path).read();
  } catch (const sqlite::SqliteError& failure) {
    refuse_pack(path, failure.what());
  } catch (const Json::exception& failure) {
    refuse_pack(path, fmt::format("its manifest cannot be read ({})", failure.what()));
  }
}

PackedKernel load_kernel(const KernelPack& pack, const std::string& name, const Gpu& gpu, const LengthBucket& lengths) {
  const auto of_name = [&](const PackedWorkload& packed) { return packed.workload.name == name; };
  const auto workload = std::ranges::find_if(pack.workloads, of_name);
  if (workload == pack.workloads.end()) {
    std::vector<std::string> names;
    for (const PackedWorkload& packed : pack.workloads) names.push_back(packed.workload.name);
    throw InvalidInput(fmt::format("{} has no workload {}: it has {}", pack.path, name, fmt::join(names, ", ")));
  }
  const cuda::DeviceFacts& facts = gpu.device->facts();
  const auto target = std::ranges::find_if(
      workload->targets, [&](const PackedTarget& candidate) { return fits(candidate.architecture, facts); });
  if (target == workload->targets.end()) {
    throw InvalidInput(fmt::format("{} has no kernel of {} for {}, compute capability {}.{}: export it for {}",
                                   pack.path, name, facts.name, facts.capability_major, facts.capability_minor,
                                   cuda::architecture_of(facts)));
  }
  const PackedPlan& plan = target->plans.at(kernel_for(target->tree, lengths));
  const BinarySource find = [codes = pack.codes, path = pack.path](const CudaCompilation& wanted) {
    const auto found = codes.find(source_digest(wanted));
    if (found != codes.end()) return found->second;
    throw ToolchainError(fmt::format("{} was made by another version of Harrier: export it again with this one", path));
  };
  return {.kernel = compile_cuda_from(workload->workload, gpu,
                                      {.architecture = target->architecture, .plan = plan.plan}, find),
          .schedule = plan.schedule};
}

}  // namespace harrier
