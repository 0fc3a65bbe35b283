#include "cli/packed_geometry.h"

#include "ir/error.h"

namespace harrier {

Geometry packed_geometry(const std::vector<int64_t>& query_lengths, const std::vector<int64_t>& key_lengths) {
  const bool has_both = key_lengths.empty() || key_lengths.size() == query_lengths.size();
  HARRIER_CHECK(has_both, "each sequence has both lengths");
  Geometry geometry;
  for (size_t i = 0; i < query_lengths.size(); ++i) {
    const int64_t queries = query_lengths[i];
    const int64_t keys = key_lengths.empty() ? queries : key_lengths[i];
    geometry.sequences.push_back({.query_length = queries,
                                  .key_length = keys,
                                  .query_valid = queries,
                                  .key_valid = keys,
                                  .query_token = geometry.query_tokens,
                                  .key_token = geometry.key_tokens});
    geometry.query_tokens += queries;
    geometry.key_tokens += keys;
  }
  return geometry;
}

}  // namespace harrier
