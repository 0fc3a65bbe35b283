// `harrier cache`: what is remembered, and caring for it.
#include <fmt/chrono.h>
#include <fmt/core.h>
#include <fmt/ostream.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/cache_commands.h"
#include "cli/json_text.h"
#include "ir/error.h"
#include "store/artifacts.h"
#include "store/maintenance.h"
#include "store/merge.h"
#include "store/tuning_rows.h"

namespace harrier {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kMib = 1024.0 * 1024.0;

std::string day_of(int64_t seconds) { return fmt::format("{:%Y-%m-%d}", fmt::gmtime(static_cast<time_t>(seconds))); }

Json json_of(const ArtifactSummary& artifact) {
  return {{"key", artifact.key},
          {"label", artifact.label},
          {"architecture", artifact.architecture},
          {"toolchain", artifact.toolchain},
          {"source_key", artifact.source_key},
          {"bytes", artifact.bytes},
          {"compile_us", artifact.compile_us},
          {"created_at", artifact.created_at},
          {"used_at", artifact.used_at},
          {"kept_by_a_decision", artifact.is_decided}};
}

Json json_of(const FoundDecision& found) {
  const auto& [context, decision] = found;
  return {{"device", context.device.silicon_key},   {"device_name", context.device.name},
          {"environment", context.environment.key}, {"pattern", context.workload.pattern_key},
          {"bucket", context.workload.bucket_key},  {"config", decision.config},
          {"artifact", decision.artifact},          {"default_us", decision.default_us},
          {"tuned_us", decision.tuned_us},          {"pinned", decision.pinned},
          {"decided_at", decision.decided_at}};
}

void print_decisions(const std::vector<FoundDecision>& decisions, std::ostream& out) {
  if (decisions.empty()) return;
  fmt::print(out, "\n{:<20} {:<24} {:>10} {:>10}  {}\n", "decided for", "lengths", "default us", "tuned us", "config");
  for (const auto& [context, decision] : decisions) {
    fmt::print(out, "{:<20} {:<24} {:>10.1f} {:>10.1f}  {}{}\n",
               context.device.name.empty() ? context.device.silicon_key : context.device.name,
               context.workload.bucket_key, decision.default_us, decision.tuned_us, decision.config,
               decision.pinned ? " (pinned)" : "");
  }
}

int list(Store& store, bool json, Streams& streams) {
  const StoreSummary summary = summarize(store);
  const std::vector<ArtifactSummary> artifacts = list_artifacts(store);
  const std::vector<FoundDecision> decisions = find_decisions(store, {});
  if (json) {
    Json artifact_list = Json::array();
    for (const ArtifactSummary& artifact : artifacts) artifact_list.push_back(json_of(artifact));
    Json decision_list = Json::array();
    for (const FoundDecision& decision : decisions) decision_list.push_back(json_of(decision));
    print_json({{"command", "cache ls"},
                {"path", store.path()},
                {"file_bytes", summary.file_bytes},
                {"artifact_bytes", summary.artifact_bytes},
                {"limit_bytes", store.options().size_limit_bytes},
                {"measurements", summary.measurements},
                {"quarantined", summary.quarantined},
                {"artifacts", artifact_list},
                {"decisions", decision_list}},
               streams.out);
    return kSuccess;
  }
  fmt::print(
      streams.out, "{}: {:.1f} MiB, {} artifacts of {:.1f} MiB, {} measurements, {} decisions, {} in quarantine\n",
      store.path(), static_cast<double>(summary.file_bytes) / kMib, summary.artifacts,
      static_cast<double>(summary.artifact_bytes) / kMib, summary.measurements, summary.decisions, summary.quarantined);
  for (const ArtifactSummary& artifact : artifacts) {
    fmt::print(streams.out, "{}  {}  {:>9} bytes  {:<10} {}\n", artifact.key.substr(0, 12), day_of(artifact.used_at),
               artifact.bytes, artifact.architecture, artifact.label);
  }
  print_decisions(decisions, streams.out);
  return kSuccess;
}

Json part_json(const ArtifactPart& part) {
  return {{"name", part.name}, {"bytes", part.bytes.size()}, {"details", Json::parse(part.details, nullptr, false)}};
}

void print_part(const ArtifactPart& part, std::ostream& out) {
  fmt::print(out, "{}: {} bytes\n", part.name, part.bytes.size());
  const Json details = Json::parse(part.details, nullptr, false);
  if (!details.is_object() || !details.contains("entries")) return;
  for (const Json& entry : details["entries"]) {
    fmt::print(out, "  {}: {} registers, {} bytes spilled\n", entry.value("name", "?"), entry.value("registers", 0),
               entry.value("spill_bytes", 0));
  }
  for (const Json& note : details.value("notes", Json::array())) fmt::print(out, "  {}\n", note.get<std::string>());
}

int show(Store& store, const std::string& prefix, bool json, Streams& streams) {
  const std::vector<ArtifactSummary> artifacts = list_artifacts(store, prefix);
  if (artifacts.size() != 1) {
    throw InvalidInput(
        fmt::format("{}: {} artifacts have keys that begin so: give more of one that `harrier cache ls` "
                    "lists",
                    prefix, artifacts.size()));
  }
  const ArtifactSummary& summary = artifacts.front();
  const std::optional<Artifact> artifact = find_artifact(store, summary.key);
  if (!artifact)
    throw InvalidInput(fmt::format("{}: damaged: it is compiled again when it is next wanted", summary.key));
  if (json) {
    Json parts = Json::array();
    for (const ArtifactPart& part : artifact->parts) parts.push_back(part_json(part));
    Json object = json_of(summary);
    object["parts"] = parts;
    print_json(object, streams.out);
    return kSuccess;
  }
  fmt::print(streams.out, "key {}\n{}\n{}, {}\ncompiled {} in {:.0f} ms, last used {}{}\n", summary.key, summary.label,
             summary.architecture, summary.toolchain, day_of(summary.created_at), summary.compile_us / 1e3,
             day_of(summary.used_at), summary.is_decided ? ", kept by a decision" : "");
  for (const ArtifactPart& part : artifact->parts) print_part(part, streams.out);
  return kSuccess;
}

int verify(Store& store, bool json, Streams& streams) {
  const VerifyReport report = verify_store(store);
  if (json) {
    print_json({{"command", "cache verify"},
                {"path", store.path()},
                {"artifacts", report.artifacts},
                {"blobs", report.blobs},
                {"problems", report.problems}},
               streams.out);
  } else {
    for (const std::string& problem : report.problems) fmt::print(streams.out, "{}\n", problem);
    fmt::print(streams.out, "{}: {} artifacts, {} blobs, {}\n", store.path(), report.artifacts, report.blobs,
               report.problems.empty() ? "clean" : fmt::format("{} problems", report.problems.size()));
  }
  return report.problems.empty() ? kSuccess : kOutsideTolerance;
}

int collect(Store& store, const CacheOptions& options, Streams& streams) {
  constexpr int64_t kBytesInMib = int64_t{1} << 20;
  if (options.size_mib && *options.size_mib < 0) {
    throw InvalidInput(
        fmt::format("--size {}: must be 0 or more: give MiB of machine code to keep", *options.size_mib));
  }
  const int64_t limit = options.size_mib ? *options.size_mib * kBytesInMib : store.options().size_limit_bytes;
  const GarbageReport report = collect_garbage(store, limit);
  if (options.json) {
    print_json({{"command", "cache gc"},
                {"artifacts", report.artifacts},
                {"blobs", report.blobs},
                {"bytes_before", report.bytes_before},
                {"bytes_after", report.bytes_after}},
               streams.out);
    return kSuccess;
  }
  fmt::print(streams.out, "{} artifacts deleted, {:.1f} MiB before, {:.1f} MiB after\n", report.artifacts,
             static_cast<double>(report.bytes_before) / kMib, static_cast<double>(report.bytes_after) / kMib);
  return kSuccess;
}

int merge_files(Store& store, const CacheOptions& options, Streams& streams) {
  MergeReport sum;
  for (const std::string& file : options.files) {
    const MergeReport report = merge_into(store, file);
    sum.artifacts += report.artifacts;
    sum.measurements += report.measurements;
    sum.decisions += report.decisions;
    sum.damaged += report.damaged;
  }
  if (options.json) {
    print_json({{"command", "cache " + options.action},
                {"artifacts", sum.artifacts},
                {"measurements", sum.measurements},
                {"decisions", sum.decisions},
                {"damaged", sum.damaged}},
               streams.out);
    return kSuccess;
  }
  fmt::print(streams.out, "{} new artifacts, {} new or newer measurements, {} decisions", sum.artifacts,
             sum.measurements, sum.decisions);
  if (sum.damaged > 0) fmt::print(streams.out, ", {} damaged artifacts left out", sum.damaged);
  fmt::print(streams.out, "\n");
  return kSuccess;
}

/// A folder for a moment.
class ScratchFolder {
 public:
  ScratchFolder() : path_((std::filesystem::temp_directory_path() / "harrier-merge-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) {
      throw InvalidInput(fmt::format("{}: cannot be made: set TMPDIR to a folder that can be written", path_));
    }
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

int merge_to_file(const CacheOptions& options, Streams& streams) {
  const ScratchFolder folder;
  const StoreHandle store = open_store({.folder = folder.path()});
  const int code = merge_files(*store, options, streams);
  export_store(*store, options.output);
  return code;
}

}  // namespace

int cache_command(const CacheOptions& options, Streams& streams) {
  if (options.action == "merge") return merge_to_file(options, streams);
  const bool changes = options.action == "gc" || options.action == "import";
  // Looking makes no folder and heals nothing.
  const StoreHandle store = open_store({.read_only = !changes, .warn = [&](const std::string& warning) {
                                          if (changes) fmt::print(streams.error, "harrier: note: {}\n", warning);
                                        }});
  if (options.action == "ls") return list(*store, options.json, streams);
  if (options.action == "show") return show(*store, options.key, options.json, streams);
  if (options.action == "verify") return verify(*store, options.json, streams);
  if (options.action == "gc") return collect(*store, options, streams);
  if (options.action == "import") return merge_files(*store, options, streams);
  export_store(*store, options.output);
  if (options.json) {
    print_json({{"command", "cache export"}, {"file", options.output}}, streams.out);
  } else {
    fmt::print(streams.out, "wrote {}\n", options.output);
  }
  return kSuccess;
}

}  // namespace harrier
