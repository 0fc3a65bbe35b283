#include "autotune/ladder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "autotune/candidate_text.h"
#include "ir/error.h"

namespace harrier::autotune {
namespace {

// What an answer may cost. Measured are those at the top, on one GPU: repeats of a tuning differ by about the margin
// of the search. Published studies found the best plan of one GPU at 58 to 99.9 % of the best on another.
constexpr double kRegretExact = 0.01;
constexpr double kRegretEnvironment = 0.02;
constexpr double kRegretOfDistance = 0.05;  // for each power of two
constexpr double kRegretSilicon = 0.1;
constexpr double kRegretModel = 0.15;
constexpr double kRegretDefault = 0.05;

bool fits(const KnownTuning& tuning, const Question& question) {
  const Choice& choice = tuning.choice;
  if (choice.plan.family != question.family) return false;
  try {
    verify(choice.plan, question.shape);
    if (choice.schedule) verify(*choice.schedule);
  } catch (const InvalidInput&) {
    return false;
  }
  return !choice.schedule || choice.schedule->heads_per_group <= question.shape.heads;
}

/// What breaks ties, so that the order of the rows does not.
auto identity_of(const KnownTuning& tuning) {
  return std::tuple(tuning.silicon.key, tuning.environment, to_text(tuning.lengths), to_text(tuning.choice));
}

bool is_same_bucket(const KnownTuning& tuning, const Question& question) {
  return bucket_of(tuning.lengths) == bucket_of(question.lengths);
}

/// Numbers of a schedule that go with the size of the GPU.
CudaSchedule scaled(const CudaSchedule& schedule, const Silicon& from, const Silicon& to, int64_t heads) {
  CudaSchedule result = schedule;
  if (from.multiprocessors > 0 && to.multiprocessors > 0) {
    result.split_capacity =
        static_cast<int>(int64_t{schedule.split_capacity} * to.multiprocessors / from.multiprocessors);
  }
  if (from.l2_bytes > 0 && to.l2_bytes > 0) {
    const int64_t together = int64_t{schedule.heads_per_group} * to.l2_bytes / from.l2_bytes;
    result.heads_per_group = static_cast<int>(std::clamp<int64_t>(together, 1, heads));
  }
  return result;
}

struct Found {
  size_t tuning;
  double distance;
};

/// The nearest of those that `is_wanted`.
template <typename IsWanted>
std::optional<Found> nearest(const Question& question, std::span<const KnownTuning> tunings, IsWanted&& is_wanted) {
  std::optional<Found> best;
  for (size_t i = 0; i < tunings.size(); ++i) {
    if (!is_wanted(tunings[i]) || !fits(tunings[i], question)) continue;
    const double apart = distance(tunings[i].lengths, question.lengths);
    const bool closer = !best || apart < best->distance ||
                        (apart == best->distance && identity_of(tunings[i]) < identity_of(tunings[best->tuning]));
    if (closer) best = Found{i, apart};
  }
  return best;
}

std::string gain_of(const KnownTuning& tuning) {
  if (tuning.default_us <= 0 || tuning.tuned_us <= 0) return "time not recorded";
  return fmt::format("{:.1f} us, the default {:.1f} us", tuning.tuned_us, tuning.default_us);
}

/// A rung that asks tunings.
struct TunedRung {
  Rung rung;
  std::function<bool(const KnownTuning&)> is_wanted;
  double farthest;
  double regret;
  const char* missing;
};

}  // namespace

const char* code_of(Rung rung) {
  switch (rung) {
    case Rung::kPinned:
      return "pinned";
    case Rung::kExact:
      return "exact";
    case Rung::kOtherEnvironment:
      return "other-environment";
    case Rung::kNearestLengths:
      return "nearest-lengths";
    case Rung::kOtherSilicon:
      return "other-silicon";
    case Rung::kCostModel:
      return "cost-model";
    case Rung::kDefault:
      return "default";
  }
  return "";
}

LadderAnswer ask_ladder(const Question& question, std::span<const KnownTuning> tunings,
                        const std::function<std::optional<ModelAnswer>()>& model) {
  const auto is_here = [&](const KnownTuning& t) { return t.silicon.key == question.silicon.key; };
  const auto is_bucket = [&](const KnownTuning& t) { return is_same_bucket(t, question); };
  const auto is_environment = [&](const KnownTuning& t) { return t.environment == question.environment; };
  constexpr double kAnywhere = 1e9;
  const TunedRung rungs[] = {
      {Rung::kPinned, [&](const KnownTuning& t) { return t.pinned && is_here(t) && is_bucket(t); }, kAnywhere, 0,
       "nothing is pinned for this GPU and workload"},
      {Rung::kExact, [&](const KnownTuning& t) { return is_here(t) && is_bucket(t) && is_environment(t); }, kAnywhere,
       kRegretExact, "not tuned on this GPU for these lengths"},
      {Rung::kOtherEnvironment, [&](const KnownTuning& t) { return is_here(t) && is_bucket(t); }, kAnywhere,
       kRegretEnvironment, "not tuned on this GPU by another version either"},
      {Rung::kNearestLengths, [&](const KnownTuning& t) { return is_here(t); }, kFarLengths, kRegretEnvironment,
       "not tuned on this GPU for lengths within a factor of 4"},
      {Rung::kOtherSilicon,
       [&](const KnownTuning& t) { return !is_here(t) && t.silicon.capability == question.silicon.capability; },
       kFarLengths, kRegretSilicon, "not tuned on another GPU of the same compute capability"},
  };

  LadderAnswer answer;
  bool answered = false;
  const auto report = [&](Rung rung, bool answers, const std::string& why) {
    answer.rungs.push_back({.rung = rung, .answered = answers, .why = why});
    if (!answers) return;
    answered = true;
    answer.rung = rung;
    answer.reason = why;
  };
  for (const TunedRung& rung : rungs) {
    if (answered) {
      report(rung.rung, false, "not asked");
      continue;
    }
    const std::optional<Found> found = nearest(question, tunings, rung.is_wanted);
    if (!found || found->distance > rung.farthest) {
      report(rung.rung, false, rung.missing);
      continue;
    }
    const KnownTuning& tuning = tunings[found->tuning];
    answer.tuning = found->tuning;
    answer.choice = tuning.choice;
    if (rung.rung == Rung::kOtherSilicon && tuning.choice.schedule) {
      answer.choice->schedule = scaled(*tuning.choice.schedule, tuning.silicon, question.silicon, question.shape.heads);
    }
    answer.regret = rung.regret + kRegretOfDistance * found->distance;
    report(rung.rung, true,
           fmt::format("tuned for {} ({}){}", to_text(tuning.lengths), gain_of(tuning),
                       rung.rung == Rung::kOtherSilicon ? " on " + tuning.silicon.key : std::string()));
  }
  if (answered) {
    report(Rung::kCostModel, false, "not asked");
    report(Rung::kDefault, false, "not asked");
    return answer;
  }
  const std::optional<ModelAnswer> modelled = model ? model() : std::nullopt;
  if (!modelled) {
    report(Rung::kCostModel, false, "not asked: it ranks plans only where a caller wants it to");
  } else if (modelled->us < modelled->default_us * (1 - kModelDoubt)) {
    answer.choice = modelled->choice;
    answer.regret = kRegretModel;
    report(
        Rung::kCostModel, true,
        fmt::format("the cost model expects {:.1f} us, of the default {:.1f} us", modelled->us, modelled->default_us));
  } else {
    report(
        Rung::kCostModel, false,
        fmt::format("its best plan ({}) is expected to take {:.1f} us, the default {:.1f} us: less than the {:.0f} % "
                    "that it may be wrong by",
                    print(modelled->choice.plan, question.shape.direction), modelled->us, modelled->default_us,
                    100 * kModelDoubt));
  }
  if (answered) {
    report(Rung::kDefault, false, "not asked");
    return answer;
  }
  answer.regret = kRegretDefault;
  report(Rung::kDefault, true, "the default plan: run `harrier tune` to look for a faster one");
  return answer;
}

}  // namespace harrier::autotune
