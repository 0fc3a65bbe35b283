// What the rounds of a search say.
#pragma once

#include <map>
#include <vector>

#include "autotune/search.h"

namespace harrier::autotune {

/// Times of candidates that took turns: of each one time for every draw.
struct Round {
  bool is_final = false;
  std::map<size_t, std::vector<double>> us;
};

/// Of every round that has both: the sum over draws of one's times over the other's. Only final rounds where there are
/// enough to tell: what got a candidate into the final was partly luck.
std::vector<double> paired_ratios(const std::vector<Round>& rounds, size_t candidate, size_t reference);

/// The incumbent, or else the default, unless a finalist is faster by more than the margin and the noise, and not much
/// slower than the default on any draw. Of several that are faster by about the same, the one that needs least shared
/// memory, then registers, then by text: so that noise does not choose.
size_t choose_winner(const std::vector<SearchCandidate>& candidates, const SearchOptions& options,
                     const std::vector<Round>& rounds, const std::vector<size_t>& finalists,
                     const std::map<size_t, int>& registers_of_code);

}  // namespace harrier::autotune
