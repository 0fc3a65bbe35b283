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
#include "cli/tune_report.h"
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

class TuneCommand {
 public:
  TuneCommand(const TuneCommandOptions& options, Streams& streams)
      : options_(options),
        streams_(streams),
        peers_(options.peers.empty() ? std::vector<PeerRecord>() : read_peers(options.peers)),
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
    TunedFile tuned{.file = file,
                    .tuning = tune_cuda(runner, workload, inputs.batches.draws, facts_, tune),
                    .peer = best_peer(peers_, workload.name, workload.shape.direction, facts_.name)};
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
  std::vector<PeerRecord> peers_;
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
  if (!options.pin.empty() || options.unpin) return pin_command(options, streams);
  return TuneCommand(options, streams).run();
}

}  // namespace harrier
