#include "cli/export_candidates.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "autotune/candidate_text.h"
#include "ir/error.h"

namespace harrier {
namespace {

using Json = nlohmann::ordered_json;

LengthBucket bucket_of(const Json& json) {
  const auto sizes = json.get<std::vector<int64_t>>();
  if (sizes.size() != 3)
    throw InvalidInput(fmt::format("a bucket has {} numbers, expected 3: correct it", sizes.size()));
  return {.query_length = sizes[0], .key_length = sizes[1], .batch_heads = sizes[2]};
}

ExportCandidate candidate_of(const Json& json) {
  const std::string text = json.at("choice").get<std::string>();
  const auto choice = autotune::choice_of(text);
  if (!choice)
    throw InvalidInput(fmt::format("the choice \"{}\" is no plan with a schedule: copy it from the tuner", text));
  ExportCandidate candidate{
      .architecture = json.at("architecture").get<std::string>(), .plan = choice->plan, .schedule = choice->schedule};
  for (const Json& time : json.at("us")) {
    candidate.microseconds.push_back(time.is_null() ? std::numeric_limits<double>::infinity() : time.get<double>());
  }
  return candidate;
}

}  // namespace

void add_candidates(const std::string& path, std::vector<ExportWorkload>& workloads) {
  std::ifstream file(path);
  if (!file) throw InvalidInput(fmt::format("{}: cannot be read: name a JSON file of candidates", path));
  try {
    for (const Json& entry : Json::parse(file)) {
      const std::string name = entry.at("workload").get<std::string>();
      const auto found =
          std::ranges::find(workloads, name, [](const ExportWorkload& workload) { return workload.workload.name; });
      if (found == workloads.end()) {
        throw InvalidInput(fmt::format("there is no workload {} to export: add its .attn file, or take it out", name));
      }
      for (const Json& bucket : entry.at("buckets")) found->buckets.push_back(bucket_of(bucket));
      for (const Json& candidate : entry.at("candidates")) found->candidates.push_back(candidate_of(candidate));
    }
  } catch (const Json::exception& error) {
    throw InvalidInput(fmt::format("{}: {}: `harrier export --help` shows what it should hold", path, error.what()));
  } catch (const InvalidInput& error) {
    throw InvalidInput(fmt::format("{}: {}", path, error.what()));
  }
}

}  // namespace harrier
