#include "compiler/export/pack_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "autotune/candidate_text.h"
#include "codegen/cuda/kernel_files.h"
#include "ir/error.h"
#include "ir/text.h"
#include "store/sha256.h"
#include "store/sqlite.h"

namespace harrier {
namespace {

using Json = nlohmann::json;

/// Names of images, in their order.
std::vector<std::string> digests_of(const KernelExport& kernels) {
  std::vector<std::string> digests;
  for (const cuda::CudaBinary& binary : kernels.images) digests.push_back(sha256_of(binary.image));
  return digests;
}

Json code_json(const std::vector<std::string>& digests, const CudaCompilation& compilation, size_t forward,
               size_t builder) {
  return {{"source", source_digest(compilation)}, {"kernel", digests[forward]}, {"builder", digests[builder]}};
}

Json kernel_json(const std::vector<std::string>& digests, const ExportedKernel& kernel) {
  Json codes = {code_json(digests, kernel.compilation, kernel.kernel_image, kernel.builder_image)};
  if (kernel.sorted) {
    const ExportedSorted& sorted = *kernel.sorted;
    codes.push_back(code_json(digests, sorted.compilation, sorted.kernel_image, sorted.builder_image));
  }
  return {{"choice", autotune::to_text(autotune::Choice{.plan = kernel.compilation.plan, .schedule = kernel.schedule})},
          {"codes", codes}};
}

std::string manifest_of(const KernelExport& kernels, const std::vector<std::string>& digests) {
  Json workloads = Json::array();
  for (const ExportedWorkload& exported : kernels.workloads) {
    Json targets = Json::array();
    for (const ExportedTarget& target : exported.targets) {
      Json list = Json::array();
      Json tree = Json::array();
      for (const ExportedKernel& kernel : target.kernels) list.push_back(kernel_json(digests, kernel));
      for (const LengthTreeNode& node : target.tree)
        tree.push_back({node.dimension, node.limit, node.below, node.above});
      targets.push_back({{"architecture", target.architecture}, {"kernels", list}, {"tree", tree}});
    }
    // Lengths choose nothing here, and a trace would name a file.
    const Workload workload{
        .name = exported.workload.name, .shape = exported.shape, .pattern = exported.workload.pattern};
    workloads.push_back({{"name", workload.name}, {"text", print(workload)}, {"targets", targets}});
  }
  return Json{{"workloads", workloads}}.dump();
}

std::string facts_of(const cuda::CudaBinary& binary) {
  Json entries = Json::array();
  for (const cuda::EntryUse& entry : binary.entries) {
    entries.push_back({entry.name, entry.registers, entry.stack_bytes, entry.spill_bytes});
  }
  return Json{{"entries", entries}, {"notes", binary.notes}}.dump();
}

/// A file's name for as long as it is written and read.
struct TemporaryFile {
  std::string path = (std::filesystem::temp_directory_path() / "harrier_pack_XXXXXX").string();
  TemporaryFile() {
    const int file = ::mkstemp(path.data());
    if (file < 0) {
      throw InvalidInput(fmt::format("{} cannot be made: set TMPDIR to a folder that may be written", path));
    }
    ::close(file);
  }
  ~TemporaryFile() { ::unlink(path.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
};

void write(const std::string& path, const KernelExport& kernels) {
  sqlite::Database database(path, sqlite::OpenMode::kReadWrite);
  database.execute(
      "PRAGMA journal_mode = OFF;"
      "CREATE TABLE manifest (text TEXT NOT NULL, sha256 TEXT NOT NULL) STRICT;"
      "CREATE TABLE image (sha256 TEXT PRIMARY KEY, bytes BLOB NOT NULL, facts TEXT NOT NULL) STRICT;");
  database.execute(
      fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {};", kPackApplication, kPackVersion).c_str());
  const std::vector<std::string> digests = digests_of(kernels);
  const std::string manifest = manifest_of(kernels, digests);
  sqlite::Transaction transaction(database);
  database.run("INSERT INTO manifest VALUES (?1, ?2)", {manifest, sha256_of(manifest)});
  std::map<std::string, const cuda::CudaBinary*> images;
  for (size_t i = 0; i < kernels.images.size(); ++i) images[digests[i]] = &kernels.images[i];
  for (const auto& [digest, binary] : images) {
    database.run("INSERT INTO image VALUES (?1, ?2, ?3)", {digest, sqlite::Bytes{binary->image}, facts_of(*binary)});
  }
  transaction.commit();
}

}  // namespace

std::string source_digest(const CudaCompilation& compilation) {
  std::vector<std::string_view> texts = {"harrier pack", compilation.target.architecture, compilation.source,
                                         compilation.builder_source};
  for (const KernelFile& file : kernel_files()) texts.insert(texts.end(), {file.name, file.text});
  return sha256_of_texts(texts);
}

ExportedFile pack_file(const KernelExport& kernels, const ExportOptions& options) {
  const TemporaryFile file;
  write(file.path, kernels);
  std::ostringstream bytes;
  bytes << std::ifstream(file.path, std::ios::binary).rdbuf();
  return {.name = options.name + ".pack", .bytes = bytes.str()};
}

}  // namespace harrier
