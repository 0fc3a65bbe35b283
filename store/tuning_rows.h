// What tuning found, as rows: which GPU, which compiler and policy, which workload, which plan, how fast.
//
// Keys are texts that the caller makes, equal exactly where results may be exchanged; the store compares them and
// nothing more. Rows of other GPUs, environments and workloads stay beside each other, so that stores of several
// machines can be merged and the nearest row can stand in where the exact one is missing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/store.h"

namespace harrier {

/// A kind of GPU.
struct DeviceRow {
  std::string silicon_key;  // cuda::silicon_key
  std::string name = {};    // the product's; of whoever came first
  int64_t capability = 0;   // 90 for 9.0
  int64_t multiprocessors = 0;
  int64_t l2_bytes = 0;
  int64_t shared_bytes_per_block = 0;
  int64_t memory_bus_bits = 0;
  int64_t memory_clock_khz = 0;
  std::string calibration = {};  // JSON; empty: not calibrated
  int64_t calibrated_at = 0;     // seconds since 1970
  bool operator==(const DeviceRow&) const = default;
};

/// What beside the GPU decides how fast a plan is: kernels, NVRTC, how time was taken.
struct EnvironmentRow {
  std::string key;
  std::string description = {};  // for people
  bool operator==(const EnvironmentRow&) const = default;
};

/// A pattern at a scale: lengths, batch and density fall into one bucket.
struct WorkloadRow {
  std::string pattern_key;    // a hash, say, of the canonical text
  std::string bucket_key;     // lengths, batch x heads, density, imbalance, as buckets
  std::string pattern = {};   // canonical text
  std::string features = {};  // JSON: the numbers behind the bucket, for distances between buckets
  bool operator==(const WorkloadRow&) const = default;
};

struct TuningContext {
  DeviceRow device;
  EnvironmentRow environment;
  WorkloadRow workload;
  bool operator==(const TuningContext&) const = default;
};

enum class TrialStatus { kTimed, kNotCompiled, kSpilled, kWrong, kCrashed, kTimedOut, kSlow };

/// "timed", "not compiled", ...
std::string_view print(TrialStatus status);

/// One candidate in one session of tuning. What is not a number becomes 0 in the store.
struct MeasurementRow {
  std::string config;         // JSON of plan and schedule, canonical: equal texts are equal candidates
  std::string session;        // names one run of the tuner; rows of equal session and config replace each other
  std::string artifact = {};  // key of the machine code, where it was kept
  TrialStatus status = TrialStatus::kTimed;
  std::string note = {};  // why it was rejected
  int64_t rounds = 0;
  double p20_us = 0;
  double p50_us = 0;
  double p80_us = 0;
  double predicted_us = 0;
  double log_ratio = 0;  // of its time to the default's, paired, with its confidence interval
  double log_ratio_low = 0;
  double log_ratio_high = 0;
  std::string details = {};  // JSON: clocks, throttling, single times
  std::string driver = {};
  int64_t measured_at = 0;  // seconds since 1970
  bool operator==(const MeasurementRow&) const = default;
};

/// What is to be run: one for each device, environment and workload.
struct DecisionRow {
  std::string config;
  std::string artifact = {};  // kept when the store is trimmed
  double default_us = 0;
  double tuned_us = 0;
  double margin = 0;            // the gain's lower confidence bound, as a fraction
  std::string space_hash = {};  // of the candidates that were considered
  std::string effort = {};      // "quick", "full"
  std::string details = {};     // JSON
  std::string driver = {};
  bool verified = false;   // its output was compared with another's
  bool pinned = false;     // by a person: tuning leaves it
  int64_t generation = 1;  // how often this has been decided; put_decision counts on from what is there
  int64_t decided_at = 0;  // seconds since 1970
  bool operator==(const DecisionRow&) const = default;
};

/// Empty fields match everything.
struct TuningQuery {
  std::string silicon_key = {};
  std::string environment_key = {};
  std::string pattern_key = {};
  std::string bucket_key = {};
};

struct FoundDecision {
  TuningContext context;
  DecisionRow decision;
};

struct FoundMeasurement {
  TuningContext context;
  MeasurementRow measurement;
};

/// Writes what the row says and keeps what it leaves empty (0, or no text).
bool put_device(Store& store, const DeviceRow& row);
std::optional<DeviceRow> find_device(Store& store, std::string_view silicon_key);

/// Context rows are made where they are missing. All or none.
bool put_measurements(Store& store, const TuningContext& context, std::span<const MeasurementRow> rows);

/// By device, environment, workload, session, config.
std::vector<FoundMeasurement> find_measurements(Store& store, const TuningQuery& query);

/// Replaces the decision of this context, unless that one is pinned and this one is not: then false.
bool put_decision(Store& store, const TuningContext& context, const DecisionRow& row);

/// Deletes the pinned decisions that match; how many there were.
int64_t release_pins(Store& store, const TuningQuery& query);

/// By device, environment, workload.
std::vector<FoundDecision> find_decisions(Store& store, const TuningQuery& query);

/// Candidates, or machine code, that crashed, hung or did not load on a kind of GPU.
struct QuarantineRow {
  std::string subject;  // "artifact:KEY", or a candidate: "config:PATTERN_KEY:CONFIG", say
  std::string silicon_key;
  std::string reason;
  int64_t hits = 1;        // how often
  int64_t expires_at = 0;  // seconds since 1970; 0: never
  bool operator==(const QuarantineRow&) const = default;
};

/// Counts a hit where the subject is there already; the later reason and end stay.
bool quarantine(Store& store, const QuarantineRow& row);

bool release_quarantine(Store& store, std::string_view subject, std::string_view silicon_key);

/// Nothing where it is not, or no longer, in quarantine at `now` (seconds since 1970).
std::optional<QuarantineRow> find_quarantine(Store& store, std::string_view subject, std::string_view silicon_key,
                                             int64_t now);

}  // namespace harrier
