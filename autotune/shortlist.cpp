#include <algorithm>
#include <set>

#include "autotune/search.h"

namespace harrier::autotune {

std::vector<size_t> shortlist(const std::vector<SearchCandidate>& candidates, const SearchOptions& options) {
  std::vector<size_t> ranked;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (std::ranges::find(options.quarantined, i) == options.quarantined.end()) ranked.push_back(i);
  }
  const auto is_before = [&](size_t a, size_t b) {
    if (candidates[a].predicted_us != candidates[b].predicted_us) {
      return candidates[a].predicted_us < candidates[b].predicted_us;
    }
    return candidates[a].text < candidates[b].text;
  };
  std::ranges::sort(ranked, is_before);

  std::vector<size_t> chosen;
  std::set<size_t> codes;
  std::set<std::string> structures;
  const auto take = [&](size_t candidate) {
    if (!codes.insert(candidates[candidate].code).second) return;
    structures.insert(candidates[candidate].structure);
    chosen.push_back(candidate);
  };
  take(options.default_candidate);
  if (options.incumbent) take(*options.incumbent);
  for (const size_t candidate : ranked) {
    if (!structures.contains(candidates[candidate].structure)) take(candidate);
  }
  for (const size_t candidate : ranked) take(candidate);
  const size_t least = options.incumbent ? 2 : 1;
  if (chosen.size() > std::max(options.most_codes, least)) chosen.resize(std::max(options.most_codes, least));
  return chosen;
}

}  // namespace harrier::autotune
