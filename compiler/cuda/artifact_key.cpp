#include "compiler/cuda/artifact_key.h"

#include <fmt/format.h>

#include <vector>

#include "codegen/cuda/kernel_files.h"
#include "runtime/cuda/library_identity.h"
#include "store/artifacts.h"
#include "store/sha256.h"

namespace harrier {
namespace {

/// Counts on when what the host expects of code changes in a way that no source shows: names of entries, shared memory
/// that it asks for, what is kept beside the code.
constexpr std::string_view kCodeAbi = "1";

const std::string& kernel_files_hash() {
  static const std::string kHash = [] {
    std::vector<std::string_view> texts;
    for (const KernelFile& file : kernel_files()) texts.insert(texts.end(), {file.name, file.text});
    return sha256_of_texts(texts);
  }();
  return kHash;
}

}  // namespace

std::string artifact_source_key(const CudaCompilation& compilation) {
  return sha256_of_texts({"cuda", kCodeAbi, compilation.target.architecture, cuda::nvrtc_code_options(),
                          kernel_files_hash(), compilation.source, compilation.builder_source});
}

std::string toolchain_name(const cuda::Nvrtc& nvrtc) {
  return fmt::format("NVRTC {}.{} {}", nvrtc.major, nvrtc.minor, nvrtc.build_id);
}

std::optional<std::string> known_toolchain(Store& store, const cuda::LazyNvrtc& nvrtc) {
  if (nvrtc.is_loaded()) return toolchain_name(nvrtc.get());
  std::optional<ToolchainRow> row = find_toolchain(store, cuda::nvrtc_wish(nvrtc.path()));
  if (!row || cuda::file_stamp(row->path) != row->stamp) return std::nullopt;
  return std::move(row->identity);
}

std::string learn_toolchain(Store& store, const cuda::LazyNvrtc& nvrtc) {
  const cuda::Nvrtc& loaded = nvrtc.get();
  std::string name = toolchain_name(loaded);
  const ToolchainRow row{.wish = cuda::nvrtc_wish(nvrtc.path()),
                         .path = loaded.file,
                         .stamp = cuda::file_stamp(loaded.file),
                         .identity = name};
  if (store.state() == StoreState::kReadWrite && find_toolchain(store, row.wish) != row) put_toolchain(store, row);
  return name;
}

}  // namespace harrier
