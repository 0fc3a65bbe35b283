// Artifacts whose right bytes follow from their number, so that any process can tell whether a lookup was right.
#pragma once

#include <fmt/format.h>

#include <random>
#include <string>
#include <vector>

#include "store/artifacts.h"
#include "store/sha256.h"

namespace harrier::test {

inline Artifact fake_artifact(int64_t number, int64_t bytes = 20'000) {
  std::mt19937_64 random(static_cast<uint64_t>(number));
  std::vector<char> kernel(static_cast<size_t>(bytes));
  for (char& byte : kernel) byte = static_cast<char>(random());
  return {.source_key = sha256_of_texts({fmt::format("source {}", number)}),
          .toolchain = "fake 1",
          .architecture = "sm_90a",
          .label = fmt::format("workload {}", number),
          .compile_us = 50,
          .parts = {{.name = "builder", .bytes = {'b', static_cast<char>(number)}, .details = "{}"},
                    {.name = "kernel", .bytes = std::move(kernel), .details = R"({"registers":168})"}},
          .created_at = 1000};
}

inline std::string key_of(const Artifact& artifact) { return artifact_key(artifact.source_key, artifact.toolchain); }

}  // namespace harrier::test
