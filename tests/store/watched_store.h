// Stores of one test.
#pragma once

#include <string>
#include <vector>

#include "store/store.h"
#include "support/temporary_folder.h"

namespace harrier::test {

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
