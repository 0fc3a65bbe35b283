// Tuning on a GPU of this process, and what it leaves in the cache.
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <string>

#include "arrays.h"
#include "bindings.h"
#include "compiler/cuda/tune_cuda.h"
#include "compiler/cuda/tuning_store.h"
#include "ir/length_distribution.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace harrier::python {
namespace {

/// What Python is told of a tuning.
struct TuningSummary {
  double default_us = 0;
  double tuned_us = 0;
  std::string plan;
  std::string schedule;  // "default": by each launch's lengths
  int64_t candidates = 0;
  double seconds = 0;
  bool out_of_time = false;
  bool saved = false;
};

int64_t seconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

TuningSummary summarise(const Tuning& tuning, bool saved) {
  const autotune::Choice& choice = tuning.candidates[tuning.winner].choice;
  return {.default_us = tuning.default_us,
          .tuned_us = tuning.tuned_us,
          .plan = print(choice.plan, tuning.workload.shape.direction),
          .schedule = choice.schedule ? print(*choice.schedule) : "default",
          .candidates = std::ssize(tuning.candidates),
          .seconds = tuning.seconds,
          .out_of_time = tuning.out_of_time,
          .saved = saved};
}

/// Searches, guided by what the cache knows, and keeps what was found there.
TuningSummary tune(const Workload& workload, const Gpu& gpu, const ReadArrays& arrays, int64_t batches, double budget,
                   bool full, uint64_t seed) {
  const Bindings bindings = view_bindings(arrays);
  const nb::gil_scoped_release unlocked;
  std::vector<LengthDraw> draws;
  for (int64_t i = 0; i < batches; ++i) {
    const std::vector<int64_t> lengths =
        sample_lengths(workload.lengths, workload.batch, seed + static_cast<uint64_t>(i));
    draws.push_back({.geometry = packed_geometry(lengths), .bindings = bindings});
  }
  const StoreHandle store = open_store();
  const cuda::DeviceFacts& facts = gpu.device->facts();
  const TuningContext context = tuning_context(facts, workload);
  TuneOptions options;
  options.budget_seconds = budget;
  options.full = full;
  options.seed = seed;
  options.incumbent = decided_choice(*store, context);
  options.calibration = known_calibration(*store, facts);
  options.compile.store = store;
  options.begin = [&](const autotune::Choice& choice) { begin_trial(*store, context, choice, seconds_since_1970()); };
  options.survived = [&](const autotune::Choice& choice) { end_trial(*store, context, choice); };
  options.failed = [&](const autotune::Choice& choice, const std::string& reason) {
    fail_trial(*store, context, choice, reason, seconds_since_1970());
  };
  options.is_quarantined = [&](const autotune::Choice& choice) {
    return is_quarantined(*store, context, choice, seconds_since_1970());
  };
  const Tuning tuning = tune_cuda(workload, draws, gpu, options);
  const bool saved = save_tuning(*store, context, tuning,
                                 {.session = "python-" + std::to_string(seconds_since_1970()),
                                  .effort = full ? "full" : "quick",
                                  .driver = std::to_string(gpu.device->driver().version),
                                  .at = seconds_since_1970()});
  return summarise(tuning, saved);
}

}  // namespace

void bind_tune(nb::module_& module) {
  nb::class_<TuningSummary>(module, "Tuning", "What tuning found. `saved`: kernels take it from now on.")
      .def_ro("default_us", &TuningSummary::default_us)
      .def_ro("tuned_us", &TuningSummary::tuned_us)
      .def_ro("plan", &TuningSummary::plan)
      .def_ro("schedule", &TuningSummary::schedule)
      .def_ro("candidates", &TuningSummary::candidates)
      .def_ro("seconds", &TuningSummary::seconds)
      .def_ro("out_of_time", &TuningSummary::out_of_time)
      .def_ro("saved", &TuningSummary::saved);
  module.def("tune", tune, "workload"_a, "gpu"_a, "arrays"_a, "batches"_a, "budget"_a, "full"_a, "seed"_a);
}

}  // namespace harrier::python
