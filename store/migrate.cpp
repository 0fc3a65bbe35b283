#include "store/migrate.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "store/schema_files.h"

namespace harrier {

std::span<const std::string_view> store_migrations() {
  static const std::array<std::string_view, kStoreVersion> kScripts = {schema_files().front().text};
  return kScripts;
}

void migrate(sqlite::Database& database, std::span<const std::string_view> scripts) {
  const auto version = [&] { return database.integer("PRAGMA user_version"); };
  const auto newest = static_cast<int64_t>(scripts.size());
  if (version() >= newest) return;
  sqlite::Transaction transaction(database);
  // Asked again: another process may have been here while this one waited.
  for (int64_t from = version(); from < newest; ++from) {
    database.execute(std::string(scripts[static_cast<size_t>(from)]).c_str());
  }
  if (version() < newest) {
    database.execute(
        fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", kStoreApplicationId, newest).c_str());
  }
  transaction.commit();
}

}  // namespace harrier
