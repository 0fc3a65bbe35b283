#include <fmt/core.h>
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <random>

#include "cli/draw_batches.h"
#include "cli/interrupt.h"
#include "cli/json_text.h"
#include "cli/progress_line.h"
#include "cli/stall_watch.h"
#include "cli/tuning_commands.h"
#include "compiler/cuda/tuning_store.h"
#include "ir/error.h"

namespace harrier {
namespace {

constexpr double kQuickSeconds = 10;
constexpr double kFullSeconds = 60;
constexpr int64_t kQuickDraws = 3;
constexpr int64_t kFullDraws = 5;

/// First runs of a candidate take milliseconds.
constexpr std::chrono::milliseconds kLongestTrial(60000);

int64_t seconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Names this run among all.
std::string session_name() {
  std::random_device device;
  return fmt::format("{}-{:08x}", seconds_since_1970(), device());
}

struct TunedFile {
  std::string file;
  Tuning tuning;
  bool saved = false;
};

nlohmann::ordered_json describe(const TunedFile& tuned, const std::string& architecture) {
  const Tuning& tuning = tuned.tuning;
  const TunedCandidate& winner = tuning.candidates[tuning.winner];
  nlohmann::ordered_json tried = nlohmann::ordered_json::array();
  for (const TunedCandidate& candidate : tuning.candidates) {
    const autotune::Trial& trial = candidate.trial;
    if (trial.status == autotune::TrialStatus::kNotTried) continue;
    nlohmann::ordered_json row = {{"choice", autotune::to_text(candidate.choice)},
                                  {"status", autotune::name_of(trial.status)},
                                  {"predicted_us", candidate.predicted_us}};
    if (!trial.reason.empty()) row["reason"] = trial.reason;
    if (!trial.us.front().empty()) row["ratio"] = trial.ratio.median;
    tried.push_back(row);
  }
  return {{"file", tuned.file},
          {"workload", tuning.workload.name},
          {"architecture", architecture},
          {"choice", autotune::to_text(winner.choice)},
          {"plan", print(winner.choice.plan)},
          {"schedule", winner.choice.schedule ? print(*winner.choice.schedule) : "default"},
          {"is_default", tuning.winner == 0},
          {"default_us", tuning.default_us},
          {"tuned_us", tuning.tuned_us},
          {"useful_tflops", tuning.useful_flops / tuning.tuned_us / 1e6},
          {"reference_error", tuning.reference_error ? nlohmann::ordered_json(*tuning.reference_error) : nullptr},
          {"rounds", tuning.rounds},
          {"measurements", tuning.measurements},
          {"seconds", tuning.seconds},
          {"out_of_time", tuning.out_of_time},
          {"stopped", tuning.stopped},
          {"saved", tuned.saved},
          {"candidates", tried}};
}

std::string gain_text(const Tuning& tuning) {
  if (tuning.winner == 0) return "default";
  return fmt::format("{:+.1f} %", 100 * (tuning.tuned_us / tuning.default_us - 1));
}

void print_table(const std::vector<TunedFile>& all, std::ostream& out) {
  fmt::print(out, "{:<24} {:>12} {:>12} {:>9} {:>8} {:>7}  {}\n", "workload", "default us", "tuned us", "change",
             "TFLOP/s", "tried", "plan");
  for (const TunedFile& tuned : all) {
    const Tuning& tuning = tuned.tuning;
    const TunedCandidate& winner = tuning.candidates[tuning.winner];
    const auto tried = std::ranges::count_if(
        tuning.candidates, [](const TunedCandidate& candidate) { return !candidate.trial.us.front().empty(); });
    fmt::print(out, "{:<24} {:>12.1f} {:>12.1f} {:>9} {:>8.1f} {:>7}  {}{}\n", tuning.workload.name, tuning.default_us,
               tuning.tuned_us, gain_text(tuning), tuning.useful_flops / tuning.tuned_us / 1e6, tried,
               print(winner.choice.plan),
               winner.choice.schedule ? "; " + print(*winner.choice.schedule) : std::string());
  }
}

/// What went otherwise than planned, for people.
void print_notes(const TunedFile& tuned, std::ostream& error) {
  const Tuning& tuning = tuned.tuning;
  if (tuning.stopped) fmt::print(error, "note: {}: stopped early, the best until then is kept\n", tuned.file);
  if (tuning.out_of_time) {
    fmt::print(error, "note: {}: time was over before all was tried: a larger --budget tries more\n", tuned.file);
  }
  if (tuning.device_lost) {
    fmt::print(error, "note: {}: the GPU failed under a candidate, which is left out from now on: tune again\n",
               tuned.file);
  }
  if (!tuned.saved) {
    fmt::print(error, "note: {}: the result could not be kept: is it pinned, or the cache folder not writable?\n",
               tuned.file);
  }
}

class TuneCommand {
 public:
  TuneCommand(const TuneCommandOptions& options, Streams& streams)
      : options_(options),
        streams_(streams),
        gpu_(open_gpu()),
        store_(open_store(
            {.warn = [&streams](const std::string& line) { fmt::print(streams.error, "warning: {}\n", line); }})),
        session_(session_name()) {}

  int run() {
    for (size_t i = 0; i < options_.files.size() && !interrupt_.token().stop_requested(); ++i) tune_file(i);
    if (options_.json) {
      nlohmann::ordered_json all = nlohmann::ordered_json::array();
      for (const TunedFile& tuned : tuned_) all.push_back(describe(tuned, target_of(gpu_).architecture));
      print_json({{"device", gpu_.device->facts().name}, {"session", session_}, {"workloads", all}}, streams_.out);
      return kSuccess;
    }
    print_table(tuned_, streams_.out);
    for (const TunedFile& tuned : tuned_) print_notes(tuned, streams_.error);
    return kSuccess;
  }

 private:
  void tune_file(size_t index) {
    const std::string& file = options_.files[index];
    Workload workload = read_workload(file);
    if (!options_.lengths.empty()) {
      workload.lengths = TraceLength{.path = options_.lengths};
      load_trace(workload.lengths, "");
    }
    const bool full = options_.effort == "full";
    const DrawnBatches batches =
        draw_batches(workload, options_.bindings, full ? kFullDraws : kQuickDraws, options_.seed);
    for (const std::string& note : batches.notes) fmt::print(streams_.error, "note: {}: {}\n", file, note);
    const TuningContext context = tuning_context(gpu_.device->facts(), workload);
    ProgressLine line(streams_.error, streams_.has_color && !options_.json, streams_.columns);
    TuneOptions tune;
    tune.budget_seconds = budget(full);
    tune.full = full;
    tune.seed = options_.seed;
    tune.incumbent = decided_choice(*store_, context);
    tune.compile.store = store_;
    tune.stop = interrupt_.token();
    tune.progress = [&](const TuneProgress& progress) {
      watch_.end();
      line.show(static_cast<double>(progress.done) / static_cast<double>(progress.total),
                fmt::format("{}, {:.0f} s left, best {:+.1f} %", workload.name, progress.seconds_left,
                            100 * (progress.ratio - 1)));
    };
    tune.begin = [&](const autotune::Choice& choice) {
      begin_trial(*store_, context, choice, seconds_since_1970());
      watch_.begin(print(choice.plan));
    };
    tune.survived = [&](const autotune::Choice& choice) {
      watch_.end();
      end_trial(*store_, context, choice);
    };
    if (!options_.again) {
      tune.is_quarantined = [&](const autotune::Choice& choice) {
        return is_quarantined(*store_, context, choice, seconds_since_1970());
      };
    }
    TunedFile tuned{.file = file, .tuning = tune_cuda(workload, batches.draws, gpu_, tune), .saved = false};
    watch_.end();
    line.clear();
    tuned.saved = save_tuning(*store_, context, tuned.tuning,
                              {.session = session_,
                               .effort = options_.effort,
                               .driver = fmt::format("{}", gpu_.device->driver().version),
                               .at = seconds_since_1970()});
    tuned_.push_back(std::move(tuned));
  }

  CudaCompileOptions compile_options() const { return {}; }

  double budget(bool full) const {
    if (!options_.budget.empty()) return seconds_of(options_.budget);
    return full ? kFullSeconds : kQuickSeconds;
  }

  const TuneCommandOptions& options_;
  Streams& streams_;
  Gpu gpu_;
  StoreHandle store_;
  std::string session_;
  InterruptWatch interrupt_;
  // Work that hangs on a GPU ends with the process alone. The candidate is in quarantine already.
  StallWatch watch_{kLongestTrial, [](const std::string& plan) {
                      fmt::print(stderr,
                                 "harrier: the GPU does not come back from the plan {}, which is left out from now on: "
                                 "tune again\n",
                                 plan);
                      std::_Exit(kToolchainFailed);
                    }};
  std::vector<TunedFile> tuned_;
};

}  // namespace

double seconds_of(const std::string& text) {
  size_t used = 0;
  double number = -1;
  try {
    number = std::stod(text, &used);
  } catch (const std::exception&) {
    number = -1;
  }
  const std::string unit = text.substr(std::min(used, text.size()));
  const double scale = unit.empty() || unit == "s" ? 1 : unit == "ms" ? 1e-3 : unit == "m" ? 60 : 0;
  constexpr double kLongestSeconds = 86400;
  const double seconds = number * scale;
  if (!(seconds > 0 && seconds <= kLongestSeconds)) {
    throw InvalidInput(fmt::format("--budget {}: not a time up to a day: write 30s, 2m or 500ms", text));
  }
  return seconds;
}

int tune_command(const TuneCommandOptions& options, Streams& streams) {
  if (options.effort != "quick" && options.effort != "full") {
    throw InvalidInput(fmt::format("--effort {}: not an effort: use quick or full", options.effort));
  }
  if (!options.budget.empty()) seconds_of(options.budget);
  return TuneCommand(options, streams).run();
}

}  // namespace harrier
