#include "autotune/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "autotune/choose_winner.h"
#include "autotune/compile_pool.h"
#include "ir/error.h"

namespace harrier::autotune {
namespace {

// What is left out early: far slower after one look, then slower than the best by less and less.
constexpr double kFarSlower = 3;
constexpr double kSlowerAfterOne = 1.3;
constexpr double kSlowerAfterTwo = 1.08;
constexpr size_t kCodesOfSchedules = 2;  // whose other schedules are tried
constexpr double kShareOfScreening = 0.6;
constexpr int kHalvingRounds = 4;

class Search {
 public:
  Search(const std::vector<SearchCandidate>& candidates, const SearchOptions& options, const SearchHooks& hooks)
      : candidates_(candidates), options_(options), hooks_(hooks), random_(options.seed), start_(hooks.now()) {
    result_.trials.resize(candidates.size());
    for (Trial& trial : result_.trials) trial.us.resize(options.draws);
    for (const size_t candidate : options.quarantined) {
      result_.trials[candidate].status = TrialStatus::kQuarantined;
      result_.trials[candidate].reason = "it failed in an earlier search";
    }
    total_ = static_cast<int64_t>(shortlist(candidates, options).size()) + kHalvingRounds + kHalvingRounds +
             options.final_rounds;
  }

  SearchResult run() {
    std::set<size_t> left = screen();
    left = halve(std::move(left));
    left = halve(with_schedules(std::move(left)));
    finish(std::move(left));
    decide();
    return std::move(result_);
  }

 private:
  double spent() const { return hooks_.now() - start_; }
  bool is_over(double share = 1) {
    if (options_.stop.stop_requested()) result_.stopped = true;
    if (spent() >= options_.budget_seconds * share) result_.out_of_time = true;
    return result_.stopped || result_.device_lost || spent() >= options_.budget_seconds * share;
  }
  bool is_fixed(size_t candidate) const {
    return candidate == options_.default_candidate || options_.incumbent == candidate;
  }

  void report(int64_t steps) {
    done_ += steps;
    if (!hooks_.progress) return;
    const double share = static_cast<double>(done_) / static_cast<double>(std::max(total_, done_));
    const double at_this_pace = done_ > 0 ? spent() * (1 / share - 1) : options_.budget_seconds;
    const size_t best = best_of_last();
    hooks_.progress({.done = done_,
                     .total = std::max(total_, done_),
                     .seconds_left = std::max(0.0, std::min(options_.budget_seconds - spent(), at_this_pace)),
                     .best = best,
                     .ratio = median_ratio(best)});
  }

  /// Runs a hook; what it throws is a failure of the candidate.
  template <typename Hook>
  RunVerdict guarded(Hook&& hook) {
    try {
      return hook();
    } catch (const Error& error) {
      return failure_of(error);
    }
  }

  /// Takes a failed candidate out; true when it was fine.
  bool is_fine(size_t candidate, const RunVerdict& verdict) {
    Trial& trial = result_.trials[candidate];
    switch (verdict.status) {
      case RunStatus::kGood:
        return true;
      case RunStatus::kNoDevice:
        return no_device(candidate, verdict);
      case RunStatus::kWrong:
        trial.status = TrialStatus::kWrong;
        break;
      case RunStatus::kTimedOut:
        trial.status = TrialStatus::kTimedOut;
        break;
      case RunStatus::kDeviceLost:
        result_.device_lost = true;
        [[fallthrough]];
      case RunStatus::kFailed:
        trial.status = TrialStatus::kFailed;
        break;
    }
    trial.reason = verdict.reason.empty() ? name_of(trial.status) : verdict.reason;
    if (hooks_.release) hooks_.release(candidate);
    if (candidate == options_.default_candidate) {
      if (!has_default_) {
        throw ToolchainError(
            fmt::format("the default plan ({}) does not run: {}", candidates_[candidate].text, trial.reason));
      }
      // It ran before, and all others are compared with it.
      result_.device_lost = true;
    } else if (hooks_.failed) {
      hooks_.failed(candidate, trial.reason);
    }
    return false;
  }

  /// Ends the search. The candidate may be as good as any.
  bool no_device(size_t candidate, const RunVerdict& verdict) {
    result_.device_lost = true;
    if (hooks_.survived) hooks_.survived(candidate);
    if (!has_default_) throw ToolchainError(verdict.reason);
    return false;
  }

  /// Correctness, before any of its times counts.
  bool is_correct(size_t candidate) {
    if (checked_.contains(candidate)) return true;
    if (hooks_.begin) hooks_.begin(candidate);
    const bool fine = is_fine(candidate, guarded([&] { return hooks_.check(candidate); }));
    if (!fine) return false;
    if (hooks_.survived) hooks_.survived(candidate);
    checked_.insert(candidate);
    return true;
  }

  /// All of `left` once on every draw, in random order; those that fail are taken out.
  void take_round(std::set<size_t>& left, bool is_final) {
    Round round;
    round.is_final = is_final;
    std::vector<size_t> order(left.begin(), left.end());
    std::map<size_t, std::vector<double>> times;
    for (size_t draw = 0; draw < options_.draws; ++draw) {
      for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_() % i]);
      for (const size_t candidate : order) {
        if (!left.contains(candidate)) continue;
        if (result_.device_lost) return;
        const RunVerdict verdict = guarded([&] { return hooks_.measure(candidate, draw); });
        ++result_.measurements;
        if (!is_fine(candidate, verdict)) {
          left.erase(candidate);
          continue;
        }
        times[candidate].push_back(verdict.us);
        result_.trials[candidate].us[draw].push_back(verdict.us);
      }
    }
    for (const auto& [candidate, us] : times) {
      if (left.contains(candidate)) round.us[candidate] = us;
    }
    rounds_.push_back(std::move(round));
    ++result_.rounds;
  }

  std::set<size_t> screen() {
    const std::vector<size_t> wanted = shortlist(candidates_, options_);
    CompilePool pool(wanted, hooks_.compile, options_.compile_threads);
    std::set<size_t> left;
    std::vector<CompilePool::Ready> early;  // ready before the default is
    while (pool.left() > 0) {
      // The default is waited for: without it there is no answer.
      if (has_default_ && is_over(kShareOfScreening)) break;
      std::optional<CompilePool::Ready> ready = pool.next();
      if (!ready) continue;
      if (!has_default_ && ready->candidate != options_.default_candidate) {
        early.push_back(std::move(*ready));
        continue;
      }
      look_at(*ready, left);
      if (ready->candidate != options_.default_candidate) continue;
      for (const CompilePool::Ready& waiting : early) {
        if (!is_over(kShareOfScreening)) look_at(waiting, left);
      }
    }
    if (options_.incumbent && usable_codes_.contains(candidates_[*options_.incumbent].code) && !is_over() &&
        is_correct(*options_.incumbent)) {
      left.insert(*options_.incumbent);
    }
    return left;
  }

  void look_at(const CompilePool::Ready& ready, std::set<size_t>& left) {
    const size_t candidate = ready.candidate;
    Trial& trial = result_.trials[candidate];
    trial.registers = ready.verdict.registers;
    registers_[candidates_[candidate].code] = ready.verdict.registers;
    const bool is_default = candidate == options_.default_candidate;
    std::string reason = ready.verdict.usable ? std::string() : ready.verdict.reason;
    if (reason.empty() && !ready.verdict.fingerprint.empty() && !is_fixed(candidate)) {
      const auto [same, is_new] = fingerprints_.try_emplace(ready.verdict.fingerprint, candidate);
      if (!is_new) reason = "the same machine code as " + candidates_[same->second].text;
    }
    if (!reason.empty() && is_default) {
      throw ToolchainError(
          fmt::format("the default plan ({}) does not compile: {}", candidates_[candidate].text, reason));
    }
    report(1);
    if (!reason.empty()) {
      trial.status = TrialStatus::kRejected;
      trial.reason = reason;
      return;
    }
    if (!is_correct(candidate)) return;
    usable_codes_.insert(candidates_[candidate].code);
    std::set<size_t> pair = {options_.default_candidate, candidate};
    take_round(pair, false);
    if (is_default) has_default_ = true;
    if (!pair.contains(candidate)) return;
    const double ratio = median_ratio(candidate);
    best_look_ = std::min(best_look_, ratio);
    if (ratio > kFarSlower * best_look_ && !is_fixed(candidate)) {
      drop(candidate);
    } else {
      left.insert(candidate);
    }
  }

  void drop(size_t candidate) {
    result_.trials[candidate].status = TrialStatus::kSlower;
    if (hooks_.release) hooks_.release(candidate);
  }

  /// Rounds until the finalists are left.
  std::set<size_t> halve(std::set<size_t> left) {
    for (int round = 1; round <= kHalvingRounds && left.size() > options_.finalists + 1 && !is_over(); ++round) {
      take_round(left, false);
      std::vector<std::pair<double, size_t>> ranked;
      for (const size_t candidate : left) {
        if (!is_fixed(candidate)) ranked.emplace_back(median_ratio(candidate), candidate);
      }
      std::ranges::sort(ranked);
      const double limit =
          (ranked.empty() ? 1 : std::min(1.0, ranked.front().first)) * (round == 1 ? kSlowerAfterOne : kSlowerAfterTwo);
      const size_t half = std::max(options_.finalists, (ranked.size() + 1) / 2);
      for (size_t i = 0; i < ranked.size(); ++i) {
        if (i < half && ranked[i].first <= limit) continue;
        drop(ranked[i].second);
        left.erase(ranked[i].second);
      }
      report(1);
    }
    return left;
  }

  /// Adds the other schedules of the best codes.
  std::set<size_t> with_schedules(std::set<size_t> left) {
    std::vector<std::pair<double, size_t>> ranked;
    for (const size_t candidate : left) ranked.emplace_back(median_ratio(candidate), candidate);
    std::ranges::sort(ranked);
    std::set<size_t> codes;
    for (const auto& [ratio, candidate] : ranked) {
      if (codes.size() < kCodesOfSchedules) codes.insert(candidates_[candidate].code);
    }
    codes.insert(candidates_[options_.default_candidate].code);
    for (size_t i = 0; i < candidates_.size(); ++i) {
      if (is_over()) break;
      if (result_.trials[i].status != TrialStatus::kNotTried || left.contains(i)) continue;
      if (!codes.contains(candidates_[i].code) || !usable_codes_.contains(candidates_[i].code)) continue;
      result_.trials[i].registers = registers_[candidates_[i].code];
      if (is_correct(i)) left.insert(i);
    }
    return left;
  }

  /// The best few in turns with the default and the incumbent.
  void finish(std::set<size_t> left) {
    std::vector<std::pair<double, size_t>> ranked;
    for (const size_t candidate : left) {
      if (!is_fixed(candidate)) ranked.emplace_back(median_ratio(candidate), candidate);
    }
    std::ranges::sort(ranked);
    for (size_t i = options_.finalists; i < ranked.size(); ++i) {
      drop(ranked[i].second);
      left.erase(ranked[i].second);
    }
    for (const size_t candidate : left) result_.trials[candidate].status = TrialStatus::kFinalist;
    if (left.size() < 2) return;
    for (int round = 0; round < options_.final_rounds && !is_over() && left.size() > 1; ++round) {
      take_round(left, true);
      report(1);
    }
  }

  RatioInterval ratios_of(size_t candidate) const {
    return ratio_interval(paired_ratios(rounds_, candidate, options_.default_candidate), options_.confidence,
                          options_.seed);
  }

  double median_ratio(size_t candidate) const {
    const std::vector<double> ratios = paired_ratios(rounds_, candidate, options_.default_candidate);
    return ratios.empty() ? 1 : median_of(ratios);
  }

  /// Of the last round, or the default.
  size_t best_of_last() const {
    size_t best = options_.default_candidate;
    if (rounds_.empty()) return best;
    double least = 1;
    for (const auto& [candidate, us] : rounds_.back().us) {
      if (result_.trials[candidate].status == TrialStatus::kFinalist || us.size() == options_.draws) {
        const double ratio = median_ratio(candidate);
        if (ratio < least) {
          least = ratio;
          best = candidate;
        }
      }
    }
    return best;
  }

  void decide() {
    std::vector<size_t> finalists;
    for (size_t i = 0; i < candidates_.size(); ++i) {
      Trial& trial = result_.trials[i];
      trial.ratio = ratios_of(i);
      if (trial.status == TrialStatus::kFinalist) finalists.push_back(i);
    }
    result_.winner = choose_winner(candidates_, options_, rounds_, finalists, registers_);
    result_.ratio = result_.trials[result_.winner].ratio;
    result_.default_us = typical_us(options_.default_candidate);
    result_.winner_us = result_.default_us * result_.ratio.median;
    if (result_.winner == options_.default_candidate) result_.winner_us = result_.default_us;
    result_.seconds = spent();
  }

  double typical_us(size_t candidate) const {
    double sum = 0;
    for (const std::vector<double>& draw : result_.trials[candidate].us) sum += median_of(draw);
    return sum / static_cast<double>(options_.draws);
  }

  const std::vector<SearchCandidate>& candidates_;
  const SearchOptions& options_;
  const SearchHooks& hooks_;
  std::mt19937_64 random_;
  double start_;
  SearchResult result_;
  std::vector<Round> rounds_;
  std::set<size_t> checked_;
  std::set<size_t> usable_codes_;
  std::map<size_t, int> registers_;  // of codes
  std::map<std::string, size_t> fingerprints_;
  bool has_default_ = false;
  double best_look_ = 1;
  int64_t done_ = 0;
  int64_t total_ = 0;
};

}  // namespace

RunVerdict failure_of(const Error& error) {
  const auto* of_device = dynamic_cast<const DeviceError*>(&error);
  const bool lost = of_device != nullptr &&
                    (of_device->failure() == DeviceFailure::kLaunch || of_device->failure() == DeviceFailure::kOther);
  return {.status = lost ? RunStatus::kDeviceLost : RunStatus::kFailed, .us = 0, .reason = error.what()};
}

const char* name_of(TrialStatus status) {
  switch (status) {
    case TrialStatus::kNotTried:
      return "not tried";
    case TrialStatus::kQuarantined:
      return "quarantined";
    case TrialStatus::kRejected:
      return "rejected";
    case TrialStatus::kWrong:
      return "wrong";
    case TrialStatus::kFailed:
      return "failed";
    case TrialStatus::kTimedOut:
      return "timed out";
    case TrialStatus::kSlower:
      return "slower";
    case TrialStatus::kFinalist:
      return "finalist";
  }
  return "";
}

SearchResult search(const std::vector<SearchCandidate>& candidates, const SearchOptions& options,
                    const SearchHooks& hooks) {
  HARRIER_CHECK(options.default_candidate < candidates.size(), "the default is a candidate");
  HARRIER_CHECK(options.draws > 0, "there is at least one draw of lengths");
  return Search(candidates, options, hooks).run();
}

}  // namespace harrier::autotune
