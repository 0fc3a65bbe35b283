// What `tune` prints about what it found.
#pragma once

#include <iosfwd>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/peer_records.h"
#include "compiler/cuda/tune_cuda.h"

namespace harrier {

struct TunedFile {
  std::string file;
  Tuning tuning;
  std::optional<PeerTime> peer = {};
  bool saved = false;
};

nlohmann::ordered_json describe(const TunedFile& tuned, const std::string& architecture);

/// A line for each: the default, the tuned plan, the best peer where one is known.
void print_table(const std::vector<TunedFile>& all, std::ostream& out);

/// What went otherwise than planned, for people.
void print_notes(const TunedFile& tuned, std::ostream& error);

}  // namespace harrier
