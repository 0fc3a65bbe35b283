// Times of other systems, as measurements record them, beside which `tune` puts its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/workload.h"

namespace harrier {

struct PeerRecord {
  std::string workload;
  std::string system;
  std::string device;  // empty: not said
  Direction direction = Direction::kForward;
  double us = 0;
};

/// A JSON list of rows {"workload", "system", "ms", ...} as in bench/results/h100.json, of systems whose name does not
/// begin with "harrier". Rows that say no direction are forward ones, rows without a time are passed over. Throws
/// InvalidInput.
std::vector<PeerRecord> read_peers(const std::string& path);

struct PeerTime {
  std::string system;
  double us = 0;  // of several records of a system, their mean
};

/// The fastest on this workload, direction and device. Nothing where none is known.
std::optional<PeerTime> best_peer(const std::vector<PeerRecord>& records, const std::string& workload,
                                  Direction direction, const std::string& device);

}  // namespace harrier
