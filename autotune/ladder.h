// Which plan and schedule a workload gets when not everything that was asked for has been tuned: the first rung that
// has an answer, with the reason and with what it may cost.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autotune/candidate_text.h"
#include "autotune/length_sketch.h"
#include "ir/cuda_plan.h"
#include "ir/cuda_schedule.h"

namespace harrier::autotune {

/// From the best answer to the one that always is.
enum class Rung {
  kPinned,            // a person said so, for this GPU and workload
  kExact,             // tuned here: this GPU, compiler, lengths
  kOtherEnvironment,  // tuned here with another compiler or driver
  kNearestLengths,    // tuned here for other lengths
  kOtherSilicon,      // tuned on a GPU of the same compute capability
  kCostModel,         // not tuned
  kDefault,           // not tuned, and the model does not say otherwise
};

/// "pinned", "exact", "other-environment", "nearest-lengths", "other-silicon", "cost-model", "default"
const char* code_of(Rung rung);

/// A GPU, as far as results travel between GPUs.
struct Silicon {
  std::string key;
  int64_t capability = 0;  // 90 for 9.0
  int64_t multiprocessors = 0;
  int64_t l2_bytes = 0;
};

/// A tuning that may answer; all are of the pattern and shape in question.
struct KnownTuning {
  Silicon silicon;
  std::string environment;
  LengthSketch lengths;
  Choice choice;
  double default_us = 0;
  double tuned_us = 0;
  bool pinned = false;
};

struct Question {
  Silicon silicon;
  std::string environment;
  LengthSketch lengths;
  Shape shape;
  CudaFamily family = CudaFamily::kSm90;
};

/// What the cost model would take, and what it says of the default.
struct ModelAnswer {
  Choice choice;
  double us = 0;
  double default_us = 0;
};

struct RungReport {
  Rung rung;
  bool answered = false;
  std::string why;  // one line
};

struct LadderAnswer {
  Rung rung = Rung::kDefault;
  std::optional<Choice> choice = {};  // nothing: the default
  std::optional<size_t> tuning = {};  // which of the known ones
  double regret = 0;  // how much slower than the best plan it may be, as a fraction: a rule of thumb for each rung
  std::string reason;
  std::vector<RungReport> rungs;  // all, from the top
};

/// The model is asked only when no tuning answers, and believed only when it promises more than it may be wrong by.
inline constexpr double kModelDoubt = 0.25;
/// Lengths further away than that, in powers of two, tell nothing.
inline constexpr double kFarLengths = 2;

/// Same question, same tunings in any order: same answer. A tuning whose plan does not fit the shape or the family is
/// passed over.
LadderAnswer ask_ladder(const Question& question, std::span<const KnownTuning> tunings,
                        const std::function<std::optional<ModelAnswer>()>& model = {});

}  // namespace harrier::autotune
