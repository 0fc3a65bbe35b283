#include "autotune/choose_winner.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace harrier::autotune {
namespace {

constexpr size_t kEnoughRounds = 5;

std::vector<double> ratios_in(const std::vector<Round>& rounds, size_t candidate, size_t reference, bool final_alone) {
  std::vector<double> ratios;
  for (const Round& round : rounds) {
    if (final_alone && !round.is_final) continue;
    const auto mine = round.us.find(candidate);
    const auto theirs = round.us.find(reference);
    if (mine == round.us.end() || theirs == round.us.end()) continue;
    const double all = std::accumulate(theirs->second.begin(), theirs->second.end(), 0.0);
    if (all > 0) ratios.push_back(std::accumulate(mine->second.begin(), mine->second.end(), 0.0) / all);
  }
  return ratios;
}

/// The median ratio on the draw where it is largest.
double worst_draw(const std::vector<Round>& rounds, size_t candidate, size_t reference, size_t draws) {
  double worst = 0;
  for (size_t draw = 0; draw < draws; ++draw) {
    std::vector<double> ratios;
    for (const Round& round : rounds) {
      const auto mine = round.us.find(candidate);
      const auto theirs = round.us.find(reference);
      if (mine == round.us.end() || theirs == round.us.end()) continue;
      if (theirs->second[draw] > 0) ratios.push_back(mine->second[draw] / theirs->second[draw]);
    }
    worst = std::max(worst, median_of(ratios));
  }
  return worst;
}

}  // namespace

std::vector<double> paired_ratios(const std::vector<Round>& rounds, size_t candidate, size_t reference) {
  std::vector<double> ratios = ratios_in(rounds, candidate, reference, true);
  return ratios.size() >= kEnoughRounds ? ratios : ratios_in(rounds, candidate, reference, false);
}

size_t choose_winner(const std::vector<SearchCandidate>& candidates, const SearchOptions& options,
                     const std::vector<Round>& rounds, const std::vector<size_t>& finalists,
                     const std::map<size_t, int>& registers_of_code) {
  const auto interval = [&](size_t candidate, size_t reference) {
    return ratio_interval(paired_ratios(rounds, candidate, reference), options.confidence, options.seed);
  };
  const auto is_bad_draw = [&](size_t candidate) {
    return worst_draw(rounds, candidate, options.default_candidate, options.draws) > 1 + options.worst_draw_loss;
  };
  size_t holder = options.default_candidate;
  if (options.incumbent && std::ranges::find(finalists, *options.incumbent) != finalists.end()) {
    // An incumbent that has become slower than the default gives way to it.
    const bool still_good = interval(*options.incumbent, options.default_candidate).low <= 1;
    if (still_good && !is_bad_draw(*options.incumbent)) holder = *options.incumbent;
  }

  std::vector<std::pair<double, size_t>> faster;
  for (const size_t candidate : finalists) {
    if (candidate == holder) continue;
    const RatioInterval ratio = interval(candidate, holder);
    if (ratio.high < 1 - options.margin && !is_bad_draw(candidate)) faster.emplace_back(ratio.median, candidate);
  }
  if (faster.empty()) return holder;
  const double best = std::ranges::min(faster).first;
  const auto order = [&](size_t candidate) {
    const auto registers = registers_of_code.find(candidates[candidate].code);
    return std::tuple(candidates[candidate].shared_bytes, registers == registers_of_code.end() ? 0 : registers->second,
                      candidates[candidate].text);
  };
  size_t winner = holder;
  for (const auto& [ratio, candidate] : faster) {
    if (ratio > best * (1 + options.margin)) continue;
    if (winner == holder || order(candidate) < order(winner)) winner = candidate;
  }
  return winner;
}

}  // namespace harrier::autotune
