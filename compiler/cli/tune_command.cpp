#include <fmt/core.h>
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <random>

#include "cli/interrupt.h"
#include "cli/json_text.h"
#include "cli/progress_line.h"
#include "cli/tune_inputs.h"
#include "cli/tuning_commands.h"
#include "compiler/cuda/runners/isolated_runner.h"
#include "compiler/cuda/runners/local_runner.h"
#include "compiler/cuda/tuning_store.h"
#include "ir/error.h"

namespace harrier {
namespace {

constexpr double kQuickSeconds = 10;
constexpr double kFullSeconds = 60;

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
          {"device_lost", tuning.device_lost},
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
  for (const TunedCandidate& candidate : tuning.candidates) {
    const autotune::TrialStatus status = candidate.trial.status;
    const bool failed = status == autotune::TrialStatus::kWrong || status == autotune::TrialStatus::kFailed ||
                        status == autotune::TrialStatus::kTimedOut;
    if (!failed) continue;
    fmt::print(error, "note: {}: left out from now on: {}: {}\n", tuned.file, print(candidate.choice.plan),
               candidate.trial.reason);
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

class TuneCommand {
 public:
  TuneCommand(const TuneCommandOptions& options, Streams& streams)
      : options_(options),
        streams_(streams),
        driver_(cuda::load_driver()),
        facts_(cuda::find_devices(*driver_).front()),
        architecture_(target_on(facts_).architecture),
        store_(open_store(
            {.warn = [&streams](const std::string& line) { fmt::print(streams.error, "warning: {}\n", line); }})),
        session_(session_name()) {}

  int run() {
    for (size_t i = 0; i < options_.files.size() && !interrupt_.token().stop_requested(); ++i) tune_file(i);
    if (options_.json) {
      nlohmann::ordered_json all = nlohmann::ordered_json::array();
      for (const TunedFile& tuned : tuned_) all.push_back(describe(tuned, architecture_));
      print_json({{"device", facts_.name}, {"session", session_}, {"workloads", all}}, streams_.out);
      return kSuccess;
    }
    print_table(tuned_, streams_.out);
    for (const TunedFile& tuned : tuned_) print_notes(tuned, streams_.error);
    return kSuccess;
  }

 private:
  void tune_file(size_t index) {
    const std::string& file = options_.files[index];
    const TuneInputs inputs = tune_inputs(file, options_);
    const Workload& workload = inputs.workload;
    for (const std::string& note : inputs.batches.notes) fmt::print(streams_.error, "note: {}: {}\n", file, note);
    const TuningContext context = tuning_context(facts_, workload);
    ProgressLine line(streams_.error, streams_.has_color && !options_.json, streams_.columns);
    TuneOptions tune;
    tune.budget_seconds = budget();
    tune.full = options_.effort == "full";
    tune.seed = options_.seed;
    tune.incumbent = decided_choice(*store_, context);
    tune.calibration = known_calibration(*store_, facts_);
    tune.compile.store = store_;
    tune.stop = interrupt_.token();
    tune.progress = [&](const TuneProgress& progress) {
      line.show(static_cast<double>(progress.done) / static_cast<double>(progress.total),
                fmt::format("{}, {:.0f} s left, best {:+.1f} %", workload.name, progress.seconds_left,
                            100 * (progress.ratio - 1)));
    };
    tune.begin = [&](const autotune::Choice& choice) { begin_trial(*store_, context, choice, seconds_since_1970()); };
    tune.survived = [&](const autotune::Choice& choice) { end_trial(*store_, context, choice); };
    tune.failed = [&](const autotune::Choice& choice, const std::string& reason) {
      fail_trial(*store_, context, choice, reason, seconds_since_1970());
    };
    if (!options_.again) {
      tune.is_quarantined = [&](const autotune::Choice& choice) {
        return is_quarantined(*store_, context, choice, seconds_since_1970());
      };
    }
    const CandidateRunner runner = runner_for(file, inputs, tune);
    TunedFile tuned{
        .file = file, .tuning = tune_cuda(runner, workload, inputs.batches.draws, facts_, tune), .saved = false};
    line.clear();
    tuned.saved = save_tuning(*store_, context, tuned.tuning,
                              {.session = session_,
                               .effort = options_.effort,
                               .driver = fmt::format("{}", driver_->version),
                               .at = seconds_since_1970()});
    tuned_.push_back(std::move(tuned));
  }

  /// A process of its own, where there is a program for it.
  CandidateRunner runner_for(const std::string& file, const TuneInputs& inputs, const TuneOptions& tune) const {
    if (streams_.program.empty()) {
      return local_runner(inputs.workload, inputs.batches.draws, open_gpu(),
                          {.compile = tune.compile, .seed = tune.seed});
    }
    return isolated_runner(worker_command(streams_.program, file, options_), inputs.workload,
                           {.target = target_on(facts_), .silicon_key = cuda::silicon_key(facts_), .nvrtc = nvrtc_},
                           tune.compile);
  }

  double budget() const {
    if (!options_.budget.empty()) return seconds_of(options_.budget);
    return options_.effort == "full" ? kFullSeconds : kQuickSeconds;
  }

  const TuneCommandOptions& options_;
  Streams& streams_;
  std::shared_ptr<const cuda::Driver> driver_;
  cuda::DeviceFacts facts_;
  std::string architecture_;
  cuda::LazyNvrtc nvrtc_;
  StoreHandle store_;
  std::string session_;
  InterruptWatch interrupt_;
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
