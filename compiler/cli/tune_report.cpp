#include "cli/tune_report.h"

#include <fmt/core.h>
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

namespace harrier {

nlohmann::ordered_json describe(const TunedFile& tuned, const std::string& architecture) {
  const Tuning& tuning = tuned.tuning;
  const TunedCandidate& winner = tuning.candidates[tuning.winner];
  nlohmann::ordered_json tried = nlohmann::ordered_json::array();
  for (const TunedCandidate& candidate : tuning.candidates) {
    const autotune::Trial& trial = candidate.trial;
    if (trial.status == autotune::TrialStatus::kNotTried) continue;
    nlohmann::ordered_json row = {{"choice", autotune::to_text(candidate.choice)},
                                  {"status", autotune::name_of(trial.status)},
                                  {"shared_bytes", shared_bytes(candidate.choice.plan, tuning.workload.shape)},
                                  {"predicted_us", candidate.predicted_us}};
    if (!trial.reason.empty()) row["reason"] = trial.reason;
    if (!trial.us.front().empty()) row["ratio"] = trial.ratio.median;
    tried.push_back(row);
  }
  return {{"file", tuned.file},
          {"workload", tuning.workload.name},
          {"architecture", architecture},
          {"choice", autotune::to_text(winner.choice)},
          {"plan", print(winner.choice.plan, tuning.workload.shape.direction)},
          {"schedule", winner.choice.schedule ? print(*winner.choice.schedule) : "default"},
          {"is_default", tuning.winner == 0},
          {"default_us", tuning.default_us},
          {"tuned_us", tuning.tuned_us},
          {"peer", tuned.peer ? nlohmann::ordered_json{{"system", tuned.peer->system}, {"us", tuned.peer->us}}
                              : nlohmann::ordered_json(nullptr)},
          {"useful_tflops", tuning.useful_flops / tuning.tuned_us / 1e6},
          {"reference_error", tuning.reference_error ? nlohmann::ordered_json(*tuning.reference_error) : nullptr},
          {"rounds", tuning.rounds},
          {"measurements", tuning.measurements},
          {"seconds", tuning.seconds},
          {"out_of_time", tuning.out_of_time},
          {"stopped", tuning.stopped},
          {"device_lost", tuning.device_lost},
          {"saved", tuned.saved},
          {"candidates", tried}};
}

namespace {

std::string peer_text(const std::optional<PeerTime>& peer) {
  return peer ? fmt::format("{:.1f} {}", peer->us, peer->system) : "-";
}

std::string gain_text(const Tuning& tuning) {
  if (tuning.winner == 0) return "default";
  return fmt::format("{:+.1f} %", 100 * (tuning.tuned_us / tuning.default_us - 1));
}

}  // namespace

void print_table(const std::vector<TunedFile>& all, std::ostream& out) {
  fmt::print(out, "{:<24} {:>12} {:>12} {:>9} {:>18} {:>8} {:>7}  {}\n", "workload", "default us", "tuned us", "change",
             "best peer us", "TFLOP/s", "tried", "plan");
  for (const TunedFile& tuned : all) {
    const Tuning& tuning = tuned.tuning;
    const TunedCandidate& winner = tuning.candidates[tuning.winner];
    const auto tried = std::ranges::count_if(
        tuning.candidates, [](const TunedCandidate& candidate) { return !candidate.trial.us.front().empty(); });
    fmt::print(out, "{:<24} {:>12.1f} {:>12.1f} {:>9} {:>18} {:>8.1f} {:>7}  {}{}\n", tuning.workload.name,
               tuning.default_us, tuning.tuned_us, gain_text(tuning), peer_text(tuned.peer),
               tuning.useful_flops / tuning.tuned_us / 1e6, tried,
               print(winner.choice.plan, tuning.workload.shape.direction),
               winner.choice.schedule ? "; " + print(*winner.choice.schedule) : std::string());
  }
}

void print_notes(const TunedFile& tuned, std::ostream& error) {
  const Tuning& tuning = tuned.tuning;
  if (tuning.stopped) fmt::print(error, "note: {}: stopped early, the best until then is kept\n", tuned.file);
  if (tuning.out_of_time) {
    fmt::print(error, "note: {}: time was over before all was tried: a larger --budget tries more\n", tuned.file);
  }
  for (const TunedCandidate& candidate : tuning.candidates) {
    const autotune::TrialStatus status = candidate.trial.status;
    const bool failed = status == autotune::TrialStatus::kWrong || status == autotune::TrialStatus::kFailed ||
                        status == autotune::TrialStatus::kTimedOut;
    if (!failed) continue;
    fmt::print(error, "note: {}: left out from now on: {}: {}\n", tuned.file,
               print(candidate.choice.plan, tuning.workload.shape.direction), candidate.trial.reason);
  }
  if (tuning.device_lost) {
    fmt::print(error, "note: {}: the GPU could not be used to the end, the best until then is kept: tune again\n",
               tuned.file);
  }
  if (!tuned.saved) {
    fmt::print(error, "note: {}: the result could not be kept: is it pinned, or the cache folder not writable?\n",
               tuned.file);
  }
}

}  // namespace harrier
