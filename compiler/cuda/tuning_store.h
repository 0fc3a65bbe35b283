// Tunings in the store: under which keys they lie, and how they are found again.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "autotune/ladder.h"
#include "compiler/cuda/tune_cuda.h"
#include "runtime/cuda/device.h"
#include "store/tuning_rows.h"

namespace harrier {

/// The GPU, the kernels' text and how time is taken, and the workload by canonical text and lengths. NVRTC's version is
/// no part of it: looking a tuning up must not load NVRTC.
TuningContext tuning_context(const cuda::DeviceFacts& facts, const Workload& workload);

/// Its last two parts, which are the same for every GPU.
EnvironmentRow tuning_environment();
WorkloadRow tuned_workload_row(const Workload& workload);

/// Of a search that was run.
struct TuningRecord {
  std::string session;  // names the run
  std::string effort;   // "quick", "full"
  std::string driver;
  int64_t at = 0;  // seconds since 1970
};

/// Every trial, the decision, and what was learned of the GPU. False where the store is not written, or the decision is
/// pinned.
bool save_tuning(Store& store, const TuningContext& context, const Tuning& tuning, const TuningRecord& record);

/// Which plan and schedule the workload gets, and why. Rows that cannot be read are passed over.
autotune::LadderAnswer answer_from_store(Store& store, const cuda::DeviceFacts& facts, const Workload& workload,
                                         const std::function<std::optional<autotune::ModelAnswer>()>& model = {});

/// What earlier tunings learned of this kind of GPU; nothing learned where the store has nothing.
autotune::RateCalibration known_calibration(Store& store, const cuda::DeviceFacts& facts);

/// Makes the choice answer for this kind of GPU and workload, whatever tuning finds, until it is released. Throws
/// InvalidInput for one that does not fit the workload, or where the store is not written.
void pin_choice(Store& store, const cuda::DeviceFacts& facts, const Workload& workload, const autotune::Choice& choice,
                int64_t now);

/// Whether something was pinned for this kind of GPU and workload.
bool unpin(Store& store, const cuda::DeviceFacts& facts, const Workload& workload);

/// What was decided in this very context.
std::optional<autotune::Choice> decided_choice(Store& store, const TuningContext& context);

/// Candidates that are being tried are in quarantine until they have run: one that takes the process along stays there.
void begin_trial(Store& store, const TuningContext& context, const autotune::Choice& choice, int64_t now);
void end_trial(Store& store, const TuningContext& context, const autotune::Choice& choice);
/// Puts a candidate that failed into quarantine, with the reason.
void fail_trial(Store& store, const TuningContext& context, const autotune::Choice& choice, const std::string& reason,
                int64_t now);
bool is_quarantined(Store& store, const TuningContext& context, const autotune::Choice& choice, int64_t now);

}  // namespace harrier
