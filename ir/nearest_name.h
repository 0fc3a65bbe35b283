// "did you mean": the known name closest to a misspelled one.
#pragma once

#include <string_view>
#include <vector>

namespace harrier {

/// The candidate with the fewest edits (letters inserted, dropped, replaced or swapped) from `word`; empty when even
/// that one differs in more than a third of its letters (at least one edit is always forgiven).
std::string_view nearest_name(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace harrier
