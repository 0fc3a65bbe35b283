// A folder of one test, and stores in it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "store/store.h"

namespace harrier::test {

/// Removed at the end, with all that lies in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "harrier-store-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder can be made");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// A store and the warnings that it gave.
struct WatchedStore {
  explicit WatchedStore(const std::string& folder, StoreOptions options = {}) {
    options.folder = folder;
    options.warn = [this](const std::string& warning) { warnings.push_back(warning); };
    store = open_store(std::move(options));
  }
  std::vector<std::string> warnings;
  StoreHandle store;
};

}  // namespace harrier::test
