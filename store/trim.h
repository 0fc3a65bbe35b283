// Keeping the store within its size.
#pragma once

#include <cstdint>
#include <string_view>

#include "store/sqlite.h"

namespace harrier {

/// Bytes of machine code that artifacts hold.
int64_t artifact_bytes(sqlite::Database& database);

/// Deletes artifacts, those used longest ago first, until `limit_bytes` hold; never those that decisions name, nor
/// `spared_key`. Returns how many went. Called within a transaction.
int64_t trim_artifacts(sqlite::Database& database, int64_t limit_bytes, std::string_view spared_key = {});

/// Deletes blobs that no artifact holds; returns how many.
int64_t delete_lone_blobs(sqlite::Database& database);

}  // namespace harrier
