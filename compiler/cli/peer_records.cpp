#include "cli/peer_records.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "ir/error.h"

namespace harrier {

std::vector<PeerRecord> read_peers(const std::string& path) {
  constexpr double kMicrosecondsInMillisecond = 1000;
  std::ifstream file(path);
  if (!file) throw InvalidInput(fmt::format("{}: cannot be read: name a JSON file of measurements", path));
  std::vector<PeerRecord> records;
  try {
    for (const nlohmann::json& row : nlohmann::json::parse(file)) {
      PeerRecord record{.workload = row.at("workload").get<std::string>(),
                        .system = row.at("system").get<std::string>(),
                        .device = row.value("device", std::string()),
                        .us = 0};
      const std::string direction = row.value("direction", std::string("forward"));
      if (direction == "backward") record.direction = Direction::kBackward;
      if ((direction != "forward" && direction != "backward") || record.system.starts_with("harrier")) continue;
      if (!row.contains("ms") || !row["ms"].is_number()) continue;
      record.us = kMicrosecondsInMillisecond * row["ms"].get<double>();
      if (!(record.us > 0) || !std::isfinite(record.us)) {
        throw InvalidInput(fmt::format("{}: {} ms of {} on {}: must be above 0: correct it, or take it out", path,
                                       row["ms"].dump(), record.system, record.workload));
      }
      records.push_back(std::move(record));
    }
  } catch (const nlohmann::json::exception& error) {
    throw InvalidInput(fmt::format(
        "{}: {}: write a list of rows like {{\"workload\": \"bigbird\", \"system\": \"flex\", \"ms\": 1.5}}", path,
        error.what()));
  }
  return records;
}

std::optional<PeerTime> best_peer(const std::vector<PeerRecord>& records, const std::string& workload,
                                  Direction direction, const std::string& device) {
  struct Mean {
    double sum = 0;
    int count = 0;
  };
  std::map<std::string, Mean> systems;
  for (const PeerRecord& record : records) {
    if (record.workload != workload || record.direction != direction) continue;
    if (!record.device.empty() && record.device != device) continue;
    Mean& mean = systems[record.system];
    mean.sum += record.us;
    ++mean.count;
  }
  std::optional<PeerTime> best;
  for (const auto& [system, mean] : systems) {
    const double us = mean.sum / mean.count;
    if (!best || us < best->us) best = PeerTime{.system = system, .us = us};
  }
  return best;
}

}  // namespace harrier
