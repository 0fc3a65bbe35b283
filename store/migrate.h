// The store's schema, and bringing older files up to it.
#pragma once

#include <span>
#include <string_view>

#include "store/sqlite.h"

namespace harrier {

inline constexpr int64_t kStoreApplicationId = 0x48415252;  // "HARR"
inline constexpr int64_t kStoreVersion = 1;

/// scripts[i] leads from version i to i + 1; version 0 is an empty file.
std::span<const std::string_view> store_migrations();

/// Runs what is missing in one transaction, so that a file has an old version or the new one and nothing between. Does
/// nothing for files of this version or newer. Throws SqliteError.
void migrate(sqlite::Database& database, std::span<const std::string_view> scripts);

}  // namespace harrier
