// Machine code by what it was compiled from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/store.h"

namespace harrier {

/// Bytes that were compiled together with others, under a name: "kernel", "builder".
struct ArtifactPart {
  std::string name;
  std::vector<char> bytes;
  std::string details = {};  // JSON: what the compiler said
  bool operator==(const ArtifactPart&) const = default;
};

struct Artifact {
  std::string source_key;  // SHA-256 of everything that was compiled, and for what
  std::string toolchain;   // with what: version and build
  std::string architecture;
  std::string label = {};  // for people
  double compile_us = 0;
  std::vector<ArtifactPart> parts;  // by name
  int64_t created_at = 0;           // seconds since 1970; put_artifact fills in 0
  bool operator==(const Artifact&) const = default;
};

/// Names an artifact: 64 hexadecimal digits.
std::string artifact_key(std::string_view source_key, std::string_view toolchain);

/// What was put under this key, every byte of it: hashes are compared, and rows that fail are deleted. Marks it used,
/// once a day.
std::optional<Artifact> find_artifact(Store& store, std::string_view key);

/// The same for any toolchain, the last that was made: for machines without a compiler.
std::optional<Artifact> find_artifact_of_source(Store& store, std::string_view source_key);

/// Keeps it, unless there is one of its key already; takes out what was used longest ago where the limit is passed.
bool put_artifact(Store& store, Artifact artifact);

/// Instead of the one of its key.
bool replace_artifact(Store& store, Artifact artifact);

/// Which compiler a search ended at: so that it need not be loaded only to be named.
struct ToolchainRow {
  std::string wish;      // everything that the search depends on
  std::string path;      // of the library
  std::string stamp;     // its size and time: while they stay, so does the identity
  std::string identity;  // Artifact::toolchain
  bool operator==(const ToolchainRow&) const = default;
};
std::optional<ToolchainRow> find_toolchain(Store& store, std::string_view wish);
bool put_toolchain(Store& store, const ToolchainRow& row);

}  // namespace harrier
