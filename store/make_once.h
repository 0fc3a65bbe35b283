// Making an artifact once, however many processes want it at the same time.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

#include "store/artifacts.h"

namespace harrier {

struct MakeOnceOptions {
  int64_t lease_ms = 20'000;     // after which a maker counts as gone; one whose process ended does at once
  int64_t patience_ms = 30'000;  // how long others wait before they make it themselves, which does no harm
  std::stop_token stop = {};     // ends the waiting: then make() is called, which knows of it too
};

struct MadeArtifact {
  Artifact artifact;
  bool was_found = false;  // in the store, where another may have put it meanwhile
};

/// The artifact of `key`: found, or what make() returns, which is kept. Processes and threads that ask at the same time
/// wait for the one that makes it. What make() throws, passes; then another makes it. Where the store cannot be written
/// everybody makes their own.
MadeArtifact make_once(Store& store, std::string_view key, const std::function<Artifact()>& make,
                       const MakeOnceOptions& options = {});

}  // namespace harrier
