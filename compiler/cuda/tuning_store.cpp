#include "compiler/cuda/tuning_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "codegen/cuda/kernel_files.h"
#include "compiler/passes/simplify.h"
#include "ir/error.h"
#include "ir/text.h"
#include "store/sha256.h"

namespace harrier {
namespace {

constexpr int64_t kQuarantineSeconds = int64_t{30} * 24 * 3600;

/// Changes whenever kernels do: another order of instructions may want another plan.
const std::string& kernels_key() {
  static const std::string kKey = [] {
    std::vector<std::string_view> texts;
    for (const KernelFile& file : kernel_files()) texts.insert(texts.end(), {file.name, file.text});
    return sha256_of_texts(texts);
  }();
  return kKey;
}

std::string subject_of(const TuningContext& context, const autotune::Choice& choice) {
  return fmt::format("config:{}:{}", context.workload.pattern_key, autotune::to_text(choice));
}

autotune::Silicon silicon_of(const DeviceRow& row) {
  return {.key = row.silicon_key,
          .capability = row.capability,
          .multiprocessors = row.multiprocessors,
          .l2_bytes = row.l2_bytes};
}

TrialStatus row_status(autotune::TrialStatus status) {
  switch (status) {
    case autotune::TrialStatus::kRejected:
      return TrialStatus::kSpilled;
    case autotune::TrialStatus::kWrong:
      return TrialStatus::kWrong;
    case autotune::TrialStatus::kFailed:
    case autotune::TrialStatus::kQuarantined:
      return TrialStatus::kCrashed;
    case autotune::TrialStatus::kTimedOut:
      return TrialStatus::kTimedOut;
    case autotune::TrialStatus::kSlower:
      return TrialStatus::kSlow;
    case autotune::TrialStatus::kNotTried:
    case autotune::TrialStatus::kFinalist:
      return TrialStatus::kTimed;
  }
  return TrialStatus::kTimed;
}

/// The value below which `share` of the sorted values lie.
double percentile(const std::vector<double>& sorted, double share) {
  return sorted[static_cast<size_t>(std::lround(share * static_cast<double>(sorted.size() - 1)))];
}

/// Logarithms of what may be 0 or infinite where there was too little to say.
double log_or_zero(double ratio) { return ratio > 0 && std::isfinite(ratio) ? std::log(ratio) : 0; }

MeasurementRow row_of(const TunedCandidate& candidate, const TuningRecord& record) {
  const autotune::Trial& trial = candidate.trial;
  MeasurementRow row{.config = autotune::to_text(candidate.choice), .session = record.session};
  row.status = row_status(trial.status);
  row.note = trial.reason;
  row.predicted_us = candidate.predicted_us;
  row.driver = record.driver;
  row.measured_at = record.at;
  std::vector<double> sorted;
  for (const std::vector<double>& draw : trial.us) sorted.insert(sorted.end(), draw.begin(), draw.end());
  if (sorted.empty()) return row;
  std::ranges::sort(sorted);
  row.rounds = std::ssize(trial.us.front());
  row.p20_us = percentile(sorted, 0.2);
  row.p50_us = percentile(sorted, 0.5);
  row.p80_us = percentile(sorted, 0.8);
  row.log_ratio = log_or_zero(trial.ratio.median);
  row.log_ratio_low = log_or_zero(trial.ratio.low);
  row.log_ratio_high = log_or_zero(trial.ratio.high);
  return row;
}

std::optional<autotune::KnownTuning> known_tuning(const FoundDecision& found) {
  const std::optional<autotune::Choice> choice = autotune::choice_of(found.decision.config);
  const std::optional<autotune::LengthSketch> lengths = autotune::sketch_of_text(found.context.workload.features);
  if (!choice || !lengths) return std::nullopt;
  return autotune::KnownTuning{.silicon = silicon_of(found.context.device),
                               .environment = found.context.environment.key,
                               .lengths = *lengths,
                               .choice = *choice,
                               .default_us = found.decision.default_us,
                               .tuned_us = found.decision.tuned_us,
                               .pinned = found.decision.pinned};
}

}  // namespace

EnvironmentRow tuning_environment() {
  return {.key = "kernels:" + kernels_key() + " stream cold-l2",
          .description = "launches on a stream, timed by events, L2 flushed"};
}

WorkloadRow tuned_workload_row(const Workload& workload) {
  const std::string text = canonical_text(simplify(workload.pattern), workload.shape);
  const autotune::LengthSketch lengths = autotune::sketch_of(workload.lengths, workload.batch);
  return {.pattern_key = sha256_of_texts({text}),
          .bucket_key = autotune::bucket_of(lengths),
          .pattern = text,
          .features = autotune::to_text(lengths)};
}

TuningContext tuning_context(const cuda::DeviceFacts& facts, const Workload& workload) {
  return {.device = {.silicon_key = cuda::silicon_key(facts),
                     .name = facts.name,
                     .capability = int64_t{10} * facts.capability_major + facts.capability_minor,
                     .multiprocessors = facts.multiprocessors,
                     .l2_bytes = facts.l2_bytes,
                     .shared_bytes_per_block = facts.shared_bytes_per_block,
                     .memory_bus_bits = facts.memory_bus_bits,
                     .memory_clock_khz = facts.memory_clock_khz},
          .environment = tuning_environment(),
          .workload = tuned_workload_row(workload)};
}

bool save_tuning(Store& store, const TuningContext& context, const Tuning& tuning, const TuningRecord& record) {
  DeviceRow device = context.device;
  device.calibration = fmt::format("{{\"rates\": \"{}\"}}", autotune::to_text(tuning.calibration));
  device.calibrated_at = record.at;
  std::vector<MeasurementRow> rows;
  for (const TunedCandidate& candidate : tuning.candidates) {
    if (candidate.trial.status == autotune::TrialStatus::kNotTried) continue;
    rows.push_back(row_of(candidate, record));
  }
  if (!put_measurements(store, context, rows)) return false;
  put_device(store, device);
  const autotune::RatioInterval& ratio = tuning.ratio;
  return put_decision(store, context,
                      {.config = autotune::to_text(tuning.candidates[tuning.winner].choice),
                       .default_us = tuning.default_us,
                       .tuned_us = tuning.tuned_us,
                       .margin = std::isfinite(ratio.high) && tuning.winner != 0 ? 1 - ratio.high : 0,
                       .effort = record.effort,
                       .details = fmt::format("{{\"useful_flops\": {:.6g}, \"least_bytes\": {:.6g}}}",
                                              tuning.useful_flops, tuning.least_bytes),
                       .driver = record.driver,
                       .verified = true,
                       .decided_at = record.at});
}

autotune::LadderAnswer answer_from_store(Store& store, const cuda::DeviceFacts& facts, const Workload& workload,
                                         const std::function<std::optional<autotune::ModelAnswer>()>& model) {
  const TuningContext context = tuning_context(facts, workload);
  std::vector<autotune::KnownTuning> tunings;
  for (const FoundDecision& found : find_decisions(store, {.pattern_key = context.workload.pattern_key})) {
    if (const auto known = known_tuning(found)) tunings.push_back(*known);
  }
  const autotune::Question question{.silicon = silicon_of(context.device),
                                    .environment = context.environment.key,
                                    .lengths = autotune::sketch_of(workload.lengths, workload.batch),
                                    .shape = workload.shape,
                                    .family = family_of(cuda::architecture_of(facts))};
  return autotune::ask_ladder(question, tunings, model);
}

autotune::RateCalibration known_calibration(Store& store, const cuda::DeviceFacts& facts) {
  const std::optional<DeviceRow> row = find_device(store, cuda::silicon_key(facts));
  if (!row) return {};
  const auto json = nlohmann::json::parse(row->calibration, nullptr, false);
  if (!json.is_object() || !json.contains("rates") || !json["rates"].is_string()) return {};
  return autotune::calibration_of(json["rates"].get<std::string>()).value_or(autotune::RateCalibration{});
}

void pin_choice(Store& store, const cuda::DeviceFacts& facts, const Workload& workload, const autotune::Choice& choice,
                int64_t now) {
  const std::string architecture = cuda::architecture_of(facts);
  if (choice.plan.family != family_of(architecture)) {
    throw InvalidInput(fmt::format("the plan \"{}\" is not for {}: pin one that was tuned on such a GPU",
                                   print(choice.plan, workload.shape.direction), architecture));
  }
  verify(choice.plan, workload.shape);
  if (choice.schedule) verify(*choice.schedule);
  // A pin holds for every version; there is one.
  unpin(store, facts, workload);
  const bool is_pinned = put_decision(store, tuning_context(facts, workload),
                                      {.config = autotune::to_text(choice), .pinned = true, .decided_at = now});
  if (!is_pinned) {
    throw InvalidInput(fmt::format("{}: the pin could not be written: make the cache folder writable",
                                   store.path().empty() ? "no cache" : store.path()));
  }
}

bool unpin(Store& store, const cuda::DeviceFacts& facts, const Workload& workload) {
  const TuningContext context = tuning_context(facts, workload);
  return release_pins(store, {.silicon_key = context.device.silicon_key,
                              .pattern_key = context.workload.pattern_key,
                              .bucket_key = context.workload.bucket_key}) > 0;
}

std::optional<autotune::Choice> decided_choice(Store& store, const TuningContext& context) {
  const std::vector<FoundDecision> found = find_decisions(store, {.silicon_key = context.device.silicon_key,
                                                                  .environment_key = context.environment.key,
                                                                  .pattern_key = context.workload.pattern_key,
                                                                  .bucket_key = context.workload.bucket_key});
  return found.empty() ? std::nullopt : autotune::choice_of(found.front().decision.config);
}

void begin_trial(Store& store, const TuningContext& context, const autotune::Choice& choice, int64_t now) {
  quarantine(store, {.subject = subject_of(context, choice),
                     .silicon_key = context.device.silicon_key,
                     .reason = "the process ended while it was tried",
                     .hits = 1,
                     .expires_at = now + kQuarantineSeconds});
}

void end_trial(Store& store, const TuningContext& context, const autotune::Choice& choice) {
  release_quarantine(store, subject_of(context, choice), context.device.silicon_key);
}

void fail_trial(Store& store, const TuningContext& context, const autotune::Choice& choice, const std::string& reason,
                int64_t now) {
  end_trial(store, context, choice);
  quarantine(store, {.subject = subject_of(context, choice),
                     .silicon_key = context.device.silicon_key,
                     .reason = reason,
                     .hits = 1,
                     .expires_at = now + kQuarantineSeconds});
}

bool is_quarantined(Store& store, const TuningContext& context, const autotune::Choice& choice, int64_t now) {
  return find_quarantine(store, subject_of(context, choice), context.device.silicon_key, now).has_value();
}

}  // namespace harrier
