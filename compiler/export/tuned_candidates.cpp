#include "compiler/export/tuned_candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <tuple>

#include "autotune/candidate_text.h"
#include "autotune/length_sketch.h"
#include "compiler/cuda/tuning_store.h"
#include "ir/error.h"
#include "store/tuning_rows.h"

namespace harrier {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

struct MeasuredTime {
  double us = 0;
  int64_t at = 0;  // seconds since 1970
};

/// Of choices, by their texts: the latest.
using TimesByChoice = std::map<std::string, MeasuredTime>;

/// Times at lengths, and what the default took.
struct TimesAtLengths {
  LengthBucket bucket;
  double default_us = 0;
  TimesByChoice times = {};
};

/// What is known of one kind of GPU and version: times at lengths.
struct Source {
  std::string device;
  bool is_current = false;
  int64_t decided_at = 0;
  std::map<std::string, TimesAtLengths> lengths;  // by the store's bucket
};

/// Empty for a GPU that no kernels are for.
std::string architecture_of_capability(int64_t capability) {
  constexpr int64_t kOldest = 80;
  if (capability < kOldest) return {};
  cuda::DeviceFacts facts;
  facts.capability_major = static_cast<int>(capability / 10);
  facts.capability_minor = static_cast<int>(capability % 10);
  return cuda::architecture_of(facts);
}

bool fits(const autotune::Choice& choice, const std::string& architecture, const Shape& shape) {
  if (choice.plan.family != family_of(architecture)) return false;
  try {
    verify(choice.plan, shape);
    if (choice.schedule) verify(*choice.schedule);
  } catch (const InvalidInput&) {
    return false;
  }
  return true;
}

class TunedWorkload {
 public:
  TunedWorkload(Store& store, const Workload& workload, const std::string& architecture)
      : workload_(workload), architecture_(architecture), current_(tuning_environment().key) {
    const std::string pattern = tuned_workload_row(workload).pattern_key;
    for (const FoundDecision& found : find_decisions(store, {.pattern_key = pattern})) add(found);
    for (const FoundMeasurement& found : find_measurements(store, {.pattern_key = pattern})) add(found);
    for (const FoundDecision& found : find_decisions(store, {.pattern_key = pattern})) pin(found);
  }

  /// Nothing where nothing was tuned.
  std::optional<Source> best() const {
    const auto rank = [](const Source& source) {
      return std::tuple(source.is_current, source.lengths.size(), source.decided_at);
    };
    std::optional<Source> best;
    for (const auto& [key, source] : sources_) {
      if (!source.lengths.empty() && (!best || rank(source) > rank(*best))) best = source;
    }
    return best;
  }

 private:
  bool is_wanted(const TuningContext& context, const std::string& config) const {
    if (architecture_of_capability(context.device.capability) != architecture_) return false;
    const std::optional<autotune::Choice> choice = autotune::choice_of(config);
    return choice && fits(*choice, architecture_, workload_.shape);
  }

  Source& source_of(const TuningContext& context) {
    Source& source = sources_[{context.device.silicon_key, context.environment.key}];
    source.device = context.device.name.empty() ? context.device.silicon_key : context.device.name;
    source.is_current = context.environment.key == current_;
    return source;
  }

  /// Nothing where the lengths cannot be read.
  std::optional<LengthBucket> bucket_of(const TuningContext& context) const {
    const std::optional<autotune::LengthSketch> sketch = autotune::sketch_of_text(context.workload.features);
    if (!sketch) return std::nullopt;
    return LengthBucket{.query_length = sketch->longest,
                        .key_length = sketch->longest,
                        .batch_heads = sketch->batch * workload_.shape.heads};
  }

  void add(const FoundDecision& found) {
    const auto& [context, decision] = found;
    const std::optional<LengthBucket> bucket = bucket_of(context);
    const bool is_measured = decision.default_us > 0 && decision.tuned_us > 0;
    if (!bucket || !is_measured || !is_wanted(context, decision.config)) return;
    Source& source = source_of(context);
    source.decided_at = std::max(source.decided_at, decision.decided_at);
    source.lengths[context.workload.bucket_key] = {
        .bucket = *bucket,
        .default_us = decision.default_us,
        .times = {{decision.config, {.us = decision.tuned_us, .at = decision.decided_at}}}};
  }

  /// Only beside a decision, whose default it was compared with.
  void add(const FoundMeasurement& found) {
    const auto& [context, row] = found;
    const bool is_timed = (row.status == TrialStatus::kTimed || row.status == TrialStatus::kSlow) && row.p50_us > 0;
    if (!is_timed || !is_wanted(context, row.config)) return;
    Source& source = source_of(context);
    const auto lengths = source.lengths.find(context.workload.bucket_key);
    if (lengths == source.lengths.end()) return;
    const MeasuredTime time{.us = lengths->second.default_us * std::exp(row.log_ratio), .at = row.measured_at};
    const auto [place, is_new] = lengths->second.times.emplace(row.config, time);
    if (!is_new && place->second.at < time.at) place->second = time;
  }

  /// A pin is of every version, and alone.
  void pin(const FoundDecision& found) {
    const auto& [context, decision] = found;
    const std::optional<LengthBucket> bucket = bucket_of(context);
    if (!decision.pinned || !bucket || !is_wanted(context, decision.config)) return;
    source_of(context);
    for (auto& [key, source] : sources_) {
      if (key.first != context.device.silicon_key) continue;
      source.lengths[context.workload.bucket_key] = {.bucket = *bucket, .times = {{decision.config, {.us = 1}}}};
    }
  }

  const Workload& workload_;
  const std::string& architecture_;
  std::string current_;
  std::map<std::pair<std::string, std::string>, Source> sources_;  // by silicon and environment
};

double apart(const LengthBucket& a, const LengthBucket& b) {
  const auto powers = [](int64_t x, int64_t y) {
    const double power = std::log2(static_cast<double>(std::max<int64_t>(x, 1))) -
                         std::log2(static_cast<double>(std::max<int64_t>(y, 1)));
    return power * power;
  };
  return powers(a.query_length, b.query_length) + powers(a.key_length, b.key_length) +
         powers(a.batch_heads, b.batch_heads);
}

/// The times at these lengths, or at the nearest that were tuned there.
const TimesByChoice& times_for(const Source& source, const LengthBucket& bucket) {
  const auto nearest = std::ranges::min_element(source.lengths, {},
                                                [&](const auto& entry) { return apart(entry.second.bucket, bucket); });
  return nearest->second.times;
}

}  // namespace

std::vector<TunedExport> add_tuned_candidates(Store& store, const std::vector<std::string>& architectures,
                                              std::vector<ExportWorkload>& workloads) {
  std::vector<TunedExport> taken;
  for (ExportWorkload& workload : workloads) {
    std::map<std::string, Source> sources;
    for (const std::string& architecture : architectures) {
      const std::optional<Source> source = TunedWorkload(store, workload.workload, architecture).best();
      if (source) sources.emplace(architecture, *source);
    }
    for (const auto& [architecture, source] : sources) {
      for (const auto& [key, entry] : source.lengths) {
        if (std::ranges::find(workload.buckets, entry.bucket) == workload.buckets.end()) {
          workload.buckets.push_back(entry.bucket);
        }
      }
    }
    for (const auto& [architecture, source] : sources) {
      std::map<std::string, std::vector<double>> rows;
      for (size_t i = 0; i < workload.buckets.size(); ++i) {
        for (const auto& [config, time] : times_for(source, workload.buckets[i])) {
          rows.try_emplace(config, workload.buckets.size(), kNever).first->second[i] = time.us;
        }
      }
      for (const auto& [config, us] : rows) {
        const autotune::Choice choice = *autotune::choice_of(config);
        workload.candidates.push_back(
            {.architecture = architecture, .plan = choice.plan, .schedule = choice.schedule, .microseconds = us});
      }
      taken.push_back({.workload = workload.workload.name,
                       .architecture = architecture,
                       .device = source.device,
                       .lengths = std::ssize(source.lengths),
                       .candidates = std::ssize(rows),
                       .of_other_version = !source.is_current});
    }
  }
  return taken;
}

}  // namespace harrier
