// Times of other systems, as measurements record them, beside which `tune` puts its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace harrier {

struct PeerRecord {
  std::string workload;
  std::string system;
  std::string device;  // empty: not said
  double us = 0;
};

/// A JSON list of rows {"workload", "system", "ms", ...} as in bench/results/h100.json: forward ones (or that say no
/// direction) of systems whose name does not begin with "harrier"; rows without a time are passed over. Throws
/// InvalidInput.
std::vector<PeerRecord> read_peers(const std::string& path);

struct PeerTime {
  std::string system;
  double us = 0;  // of several records of a system, their mean
};

/// The fastest on this workload and device. Nothing where none is known.
std::optional<PeerTime> best_peer(const std::vector<PeerRecord>& records, const std::string& workload,
                                  const std::string& device);

}  // namespace harrier
