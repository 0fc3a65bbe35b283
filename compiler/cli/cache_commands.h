// `harrier cache ls|show|verify|gc|merge|export|import`
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"

namespace CLI {
class App;
}

namespace harrier {

struct CacheOptions {
  std::string action;              // the word after `cache`
  std::string key;                 // of show: how an artifact's key begins
  std::vector<std::string> files;  // of merge and import
  std::string output;              // of merge and export
  std::optional<int64_t> size_mib;
  bool json = false;
};

/// Problems that verify finds are exit code 1.
int cache_command(const CacheOptions& options, Streams& streams);

/// Adds the command; options.action is set when it is parsed.
CLI::App* add_cache(CLI::App& app, CacheOptions& options);

}  // namespace harrier
