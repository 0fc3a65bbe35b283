// Runs commands in process and keeps their files in a folder of their own.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/npy.h"
#include "support/temporary_folder.h"

namespace harrier {

struct CommandResult {
  int code;
  std::string out;
  std::string error;
};

/// `program`: what the command starts where it wants another process; empty: it does without.
inline CommandResult run_harrier(const std::vector<std::string>& arguments, const std::string& program = {}) {
  std::ostringstream out;
  std::ostringstream error;
  Streams streams{.out = out, .error = error, .has_color = false, .columns = 80, .program = program};
  const int code = run_command_line(arguments, streams);
  return {.code = code, .out = out.str(), .error = error.str()};
}

template <typename Value>
NpyArray make_array(ElementType type, std::vector<int64_t> shape, const std::vector<Value>& values) {
  NpyArray array{.type = type, .shape = std::move(shape), .bytes = {}};
  array.bytes.resize(values.size() * sizeof(Value));
  if (!values.empty()) std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  return array;
}

class CliTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_ / name; }

  std::string write_text(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
    return path(name);
  }

  std::string write_array(const std::string& name, const NpyArray& array) const {
    write_npy(path(name), array.view());
    return path(name);
  }

  std::string read_text(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  /// Messages with the folder's name cut out, so that they can be compared with literal text.
  std::string without_folder(std::string text) const {
    const std::string prefix = folder_.path() + "/";
    for (size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) text.erase(at, prefix.size());
    return text;
  }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  const test::TemporaryFolder folder_;
};

}  // namespace harrier
