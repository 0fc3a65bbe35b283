// schema.sql, embedded.
#pragma once

#include <span>
#include <string_view>

namespace harrier {

struct SchemaFile {
  std::string_view name;
  std::string_view text;
};

std::span<const SchemaFile> schema_files();

}  // namespace harrier
