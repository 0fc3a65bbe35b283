#include "ir/nearest_name.h"

#include <algorithm>
#include <cstddef>

namespace harrier {
namespace {

/// Names longer than this are no misspelling of ours, and comparing them would cost.
constexpr std::size_t kLongestWord = 64;

/// Edits between two words, a swap of neighbours counting as one.
std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> before_last(to.size() + 1);
  std::vector<std::size_t> last(to.size() + 1);
  std::vector<std::size_t> row(to.size() + 1);
  for (std::size_t j = 0; j <= to.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= from.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (from[i - 1] == to[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      const bool swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    before_last.swap(last);
    last.swap(row);
  }
  return last[to.size()];
}

}  // namespace

std::string_view nearest_name(std::string_view word, const std::vector<std::string_view>& candidates) {
  if (word.size() > kLongestWord) return {};
  std::string_view nearest;
  std::size_t fewest = kLongestWord;
  for (const std::string_view candidate : candidates) {
    const std::size_t edits = edit_distance(word, candidate);
    const std::size_t forgiven = std::max<std::size_t>(1, candidate.size() / 3);
    if (edits <= forgiven && edits < fewest && edits < candidate.size()) {
      nearest = candidate;
      fewest = edits;
    }
  }
  return nearest;
}

}  // namespace harrier
