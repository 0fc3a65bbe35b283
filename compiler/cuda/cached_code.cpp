#include "compiler/cuda/cached_code.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "compiler/cuda/artifact_key.h"
#include "compiler/cuda/image_check.h"
#include "ir/error.h"
#include "store/artifacts.h"
#include "store/make_once.h"
#include "store/tuning_rows.h"

namespace harrier {
namespace {

constexpr std::string_view kKernelPart = "kernel";
constexpr std::string_view kBuilderPart = "builder";
constexpr int64_t kQuarantineSeconds = 86400;

std::string details_of(const cuda::CudaBinary& binary) {
  nlohmann::ordered_json entries = nlohmann::ordered_json::array();
  for (const cuda::EntryUse& entry : binary.entries) {
    entries.push_back({{"name", entry.name},
                       {"registers", entry.registers},
                       {"stack_bytes", entry.stack_bytes},
                       {"spill_bytes", entry.spill_bytes}});
  }
  const nlohmann::ordered_json details = {
      {"compile_us", binary.compile_us}, {"entries", entries}, {"notes", binary.notes}, {"log", binary.log}};
  return details.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Nothing where details are not what details_of writes.
std::optional<cuda::CudaBinary> binary_of(ArtifactPart part) {
  try {
    const auto details = nlohmann::json::parse(part.details);
    cuda::CudaBinary binary{.image = std::move(part.bytes),
                            .log = details.at("log").get<std::string>(),
                            .entries = {},
                            .notes = details.at("notes").get<std::vector<std::string>>(),
                            .compile_us = details.at("compile_us").get<double>()};
    for (const auto& entry : details.at("entries")) {
      binary.entries.push_back({.name = entry.at("name").get<std::string>(),
                                .registers = entry.at("registers").get<int>(),
                                .stack_bytes = entry.at("stack_bytes").get<int>(),
                                .spill_bytes = entry.at("spill_bytes").get<int>()});
    }
    return binary;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

Artifact artifact_of(const CudaBinaries& binaries, const CudaCompilation& compilation, std::string source_key,
                     std::string toolchain) {
  return {
      .source_key = std::move(source_key),
      .toolchain = std::move(toolchain),
      .architecture = compilation.target.architecture,
      .label = fmt::format("{}: {}", compilation.workload.name,
                           print(compilation.plan, compilation.workload.shape.direction)),
      .compile_us = binaries.kernel.compile_us,
      .parts = {
          {.name = std::string(kBuilderPart), .bytes = binaries.builder.image, .details = details_of(binaries.builder)},
          {.name = std::string(kKernelPart), .bytes = binaries.kernel.image, .details = details_of(binaries.kernel)}}};
}

/// Nothing for what cannot be the code that is wanted.
std::optional<CudaBinaries> binaries_of(Artifact artifact, const CudaCompilation& compilation) {
  std::optional<cuda::CudaBinary> kernel;
  std::optional<cuda::CudaBinary> builder;
  for (ArtifactPart& part : artifact.parts) {
    if (!image_problem(part.bytes, compilation.target.architecture).empty()) return std::nullopt;
    const bool is_kernel = part.name == kKernelPart;
    if (is_kernel || part.name == kBuilderPart) (is_kernel ? kernel : builder) = binary_of(std::move(part));
  }
  if (!kernel || !builder) return std::nullopt;
  return CudaBinaries{.kernel = *std::move(kernel), .builder = *std::move(builder)};
}

std::string subject_of(const std::string& key) { return "artifact:" + key; }

/// One look-up and what follows from it.
class CodeSearch {
 public:
  CodeSearch(const cuda::LazyNvrtc& nvrtc, const CudaCompilation& compilation, const CudaCompileOptions& options,
             const std::string& silicon_key)
      : nvrtc_(nvrtc),
        compilation_(compilation),
        options_(options),
        silicon_key_(silicon_key),
        store_(*options.store),
        source_key_(artifact_source_key(compilation)) {}

  FoundBinaries run() {
    std::optional<std::string> toolchain = known_toolchain(store_, nvrtc_);
    if (toolchain) {
      if (auto found = usable(find_artifact(store_, artifact_key(source_key_, *toolchain)))) return *std::move(found);
    }
    if (is_frozen(options_)) return of_any_toolchain_or([&] { throw frozen(); });
    if (!toolchain) {
      try {
        toolchain = learn_toolchain(store_, nvrtc_);
      } catch (const ToolchainError&) {
        return of_any_toolchain_or([] { throw; });
      }
    }
    return made_by(*toolchain);
  }

 private:
  std::optional<FoundBinaries> usable(std::optional<Artifact> artifact) const {
    if (!artifact) return std::nullopt;
    std::string key = artifact_key(artifact->source_key, artifact->toolchain);
    if (find_quarantine(store_, subject_of(key), silicon_key_, store_.now_ms() / 1000)) return std::nullopt;
    std::optional<CudaBinaries> binaries = binaries_of(*std::move(artifact), compilation_);
    if (!binaries) return std::nullopt;
    return FoundBinaries{.binaries = *std::move(binaries), .key = std::move(key), .was_cached = true};
  }

  template <typename Otherwise>
  FoundBinaries of_any_toolchain_or(Otherwise&& otherwise) const {
    std::optional<FoundBinaries> found = usable(find_artifact_of_source(store_, source_key_));
    if (!found) otherwise();
    return *std::move(found);
  }

  ToolchainError frozen() const {
    return ToolchainError(
        fmt::format("no machine code {} for {} in the cache {}, and HARRIER_FROZEN forbids to compile: make it with "
                    "`HARRIER_FROZEN=0 harrier run {}.attn --backend cuda`, or bring it with `harrier cache import`",
                    source_key_, compilation_.target.architecture, store_.path(),
                    compilation_.workload.name.empty() ? "FILE" : compilation_.workload.name));
  }

  FoundBinaries made_by(const std::string& toolchain) const {
    const std::string key = artifact_key(source_key_, toolchain);
    std::optional<CudaBinaries> compiled;
    const auto make = [&] {
      compiled = compile_source(nvrtc_, compilation_, options_.use_cache, options_.stop);
      return artifact_of(*compiled, compilation_, source_key_, toolchain);
    };
    MadeArtifact made = make_once(store_, key, make, {.stop = options_.stop});
    if (made.was_found) {
      if (auto found = usable(std::move(made.artifact))) return *std::move(found);
      // What is there was refused before, or cannot be read: this takes its place when it has loaded.
      make();
    }
    return {.binaries = *std::move(compiled), .key = key, .was_cached = false};
  }

  const cuda::LazyNvrtc& nvrtc_;
  const CudaCompilation& compilation_;
  const CudaCompileOptions& options_;
  const std::string& silicon_key_;
  Store& store_;
  std::string source_key_;
};

/// After code of its own compile has loaded: nothing else of this key is any good.
void replace_in_store(const cuda::LazyNvrtc& nvrtc, const CudaCompilation& compilation, Store& store,
                      const std::string& silicon_key, const CudaBinaries& binaries) {
  const Artifact artifact =
      artifact_of(binaries, compilation, artifact_source_key(compilation), toolchain_name(nvrtc.get()));
  replace_artifact(store, artifact);
  release_quarantine(store, subject_of(artifact_key(artifact.source_key, artifact.toolchain)), silicon_key);
}

}  // namespace

bool is_frozen(const CudaCompileOptions& options) {
  const char* frozen = std::getenv("HARRIER_FROZEN");
  return options.frozen || (frozen != nullptr && std::string_view(frozen) == "1");
}

FoundBinaries find_or_compile(const cuda::LazyNvrtc& nvrtc, const CudaCompilation& compilation,
                              const CudaCompileOptions& options, const std::string& silicon_key) {
  if (options.store) return CodeSearch(nvrtc, compilation, options, silicon_key).run();
  if (is_frozen(options)) {
    throw ToolchainError(
        fmt::format("no machine code {}: HARRIER_FROZEN forbids to compile, and no cache is used: give one, or set "
                    "HARRIER_FROZEN=0",
                    artifact_source_key(compilation)));
  }
  return {.binaries = compile_source(nvrtc, compilation, options.use_cache, options.stop), .key = {}};
}

std::shared_ptr<const LoadedCode> load_cached(
    const cuda::LazyNvrtc& nvrtc, const CudaCompilation& compilation, const CudaCompileOptions& options,
    const std::string& silicon_key, const std::function<std::shared_ptr<const LoadedCode>(FoundBinaries)>& load) {
  FoundBinaries found = find_or_compile(nvrtc, compilation, options, silicon_key);
  if (!found.was_cached) {
    const bool was_refused = options.store && find_quarantine(*options.store, subject_of(found.key), silicon_key,
                                                              options.store->now_ms() / 1000);
    if (!was_refused) return load(std::move(found));
    auto code = load(found);
    replace_in_store(nvrtc, compilation, *options.store, silicon_key, found.binaries);
    return code;
  }
  const std::string key = found.key;
  try {
    return load(std::move(found));
  } catch (const DeviceError& error) {
    if (error.failure() != DeviceFailure::kBadImage || is_frozen(options)) throw;
    Store& store = *options.store;
    quarantine(store, {.subject = subject_of(key),
                       .silicon_key = silicon_key,
                       .reason = error.what(),
                       .expires_at = store.now_ms() / 1000 + kQuarantineSeconds});
    store.warn_once(fmt::format("the GPU refused machine code of the cache {}: {}", store.path(), error.what()));
  }
  FoundBinaries fresh{.binaries = compile_source(nvrtc, compilation, options.use_cache, options.stop), .key = {}};
  auto code = load(fresh);
  replace_in_store(nvrtc, compilation, *options.store, silicon_key, fresh.binaries);
  return code;
}

}  // namespace harrier
