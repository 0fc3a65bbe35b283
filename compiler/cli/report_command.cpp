#include <fmt/chrono.h>
#include <fmt/core.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <tuple>

#include "autotune/candidate_text.h"
#include "cli/output_file.h"
#include "cli/report_html.h"
#include "cli/tuning_commands.h"
#include "store/tuning_rows.h"

namespace harrier {
namespace {

/// A workload on a GPU: device, pattern, lengths.
using Place = std::tuple<std::string, std::string, std::string>;

Place place_of(const TuningContext& context) {
  return {context.device.silicon_key, context.workload.pattern, context.workload.bucket_key};
}

const char* name_of_status(TrialStatus status) {
  switch (status) {
    case TrialStatus::kTimed:
      return "in the final";
    case TrialStatus::kNotCompiled:
      return "not compiled";
    case TrialStatus::kSpilled:
      return "rejected";
    case TrialStatus::kWrong:
      return "wrong";
    case TrialStatus::kCrashed:
      return "failed";
    case TrialStatus::kTimedOut:
      return "timed out";
    case TrialStatus::kSlow:
      return "slower";
  }
  return "";
}

/// A number of a JSON object; 0 where it is missing or the text is none.
double number_of(const std::string& json, const char* name) {
  const nlohmann::json parsed = nlohmann::json::parse(json, nullptr, false);
  return parsed.is_object() && parsed.contains(name) && parsed[name].is_number() ? parsed[name].get<double>() : 0;
}

/// Of a pattern's canonical text.
Direction direction_of(const std::string& pattern) {
  return pattern.find("direction backward") == std::string::npos ? Direction::kForward : Direction::kBackward;
}

ReportedTrial trial_of(const MeasurementRow& row, Direction direction) {
  ReportedTrial trial{.status = name_of_status(row.status),
                      .note = row.note,
                      .p20_us = row.p20_us,
                      .p50_us = row.p50_us,
                      .p80_us = row.p80_us,
                      .predicted_us = row.predicted_us,
                      .ratio = std::exp(row.log_ratio)};
  const std::optional<autotune::Choice> choice = autotune::choice_of(row.config);
  trial.plan = choice ? print(choice->plan, direction) : row.config;
  // Nothing but the default takes exactly as long as the default.
  trial.is_default = row.p50_us > 0 && row.log_ratio == 0;
  if (choice) trial.schedule = choice->schedule ? print(*choice->schedule) : "default";
  return trial;
}

autotune::DeviceModel model_of(const DeviceRow& device) {
  return autotune::device_model(
      {.capability_major = static_cast<int>(device.capability / 10),
       .capability_minor = static_cast<int>(device.capability % 10),
       .multiprocessors = device.multiprocessors,
       .l2_bytes = device.l2_bytes,
       .dram_gb_per_second = 2.0 * static_cast<double>(device.memory_clock_khz * device.memory_bus_bits) / 8 / 1e6});
}

/// The measurements of the latest session of each place.
std::map<Place, std::vector<FoundMeasurement>> latest(const std::vector<FoundMeasurement>& all) {
  std::map<Place, std::pair<int64_t, std::string>> sessions;
  for (const FoundMeasurement& found : all) {
    auto& last = sessions[place_of(found.context)];
    last = std::max(last, std::pair(found.measurement.measured_at, found.measurement.session));
  }
  std::map<Place, std::vector<FoundMeasurement>> kept;
  for (const FoundMeasurement& found : all) {
    const Place place = place_of(found.context);
    if (sessions[place].second == found.measurement.session) kept[place].push_back(found);
  }
  return kept;
}

ReportedTuning tuning_of(const std::vector<FoundMeasurement>& rows, const DecisionRow* decision) {
  const TuningContext& context = rows.front().context;
  ReportedTuning tuning{.pattern = context.workload.pattern,
                        .lengths = context.workload.features,
                        .device = context.device.name,
                        .model = model_of(context.device)};
  const std::time_t at = rows.front().measurement.measured_at;
  tuning.when = fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(at));
  for (const FoundMeasurement& found : rows) {
    ReportedTrial trial = trial_of(found.measurement, direction_of(context.workload.pattern));
    trial.is_winner = decision != nullptr && decision->config == found.measurement.config;
    tuning.trials.push_back(std::move(trial));
  }
  if (decision == nullptr) return tuning;
  tuning.effort = decision->effort;
  tuning.default_us = decision->default_us;
  tuning.tuned_us = decision->tuned_us;
  tuning.useful_flops = number_of(decision->details, "useful_flops");
  tuning.least_bytes = number_of(decision->details, "least_bytes");
  return tuning;
}

}  // namespace

int report_command(const ReportOptions& options, Streams& streams) {
  const StoreHandle store = open_store({.read_only = true, .warn = [&streams](const std::string& line) {
                                          fmt::print(streams.error, "warning: {}\n", line);
                                        }});
  std::map<Place, DecisionRow> decisions;
  for (const FoundDecision& found : find_decisions(*store, {})) {
    DecisionRow& last = decisions[place_of(found.context)];
    if (found.decision.decided_at >= last.decided_at) last = found.decision;
  }
  std::vector<ReportedTuning> tunings;
  for (const auto& [place, rows] : latest(find_measurements(*store, {}))) {
    const auto decision = decisions.find(place);
    tunings.push_back(tuning_of(rows, decision == decisions.end() ? nullptr : &decision->second));
  }
  write_text_file(options.output, report_html(tunings));
  fmt::print(streams.out, "{}: {} tuning{}\n", options.output, tunings.size(), tunings.size() == 1 ? "" : "s");
  return kSuccess;
}

}  // namespace harrier
