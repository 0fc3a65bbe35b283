// The one place that writes JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <ostream>

namespace harrier {

/// Indented, with a line end. Bytes that are not UTF-8 (paths may hold any) are replaced, not an error.
inline void print_json(const nlohmann::ordered_json& json, std::ostream& out) {
  out << json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

}  // namespace harrier
