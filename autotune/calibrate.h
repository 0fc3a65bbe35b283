// How fast the units of a GPU really are, learned from the times that tuning measures on it anyway.
//
// A GPU starts with what is known of its family. Each tuning moves the rates so that the model gives its times better:
// those that had a say in these times, and the less the more earlier tunings have said about them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "autotune/device_model.h"

namespace harrier::autotune {

enum Rate : size_t { kTensor, kExponents, kL2, kDram, kLaunch };
inline constexpr size_t kRates = 5;
/// "tensor", "exponents", "l2", "dram", "launch"
inline constexpr std::array<std::string_view, kRates> kRateNames = {"tensor", "exponents", "l2", "dram", "launch"};

struct RateCalibration {
  std::array<double, kRates> factor = {1, 1, 1, 1, 1};  // over the family's rates; of kLaunch, over its time
  std::array<double, kRates> certainty = {};            // how much has been learned; 0: nothing
  int64_t measurements = 0;
  bool operator==(const RateCalibration&) const = default;
};

DeviceModel calibrated(DeviceModel device, const RateCalibration& calibration);

/// A launch that was timed, and what the model says of it on any device.
struct TimedLaunch {
  std::function<double(const DeviceModel&)> model_us;
  double us = 0;
};

/// What is known after these launches, all of one tuning: the rates of the least squared error of logarithms, where
/// leaving what was known before costs too. `device` is not calibrated. Launches without a time are passed over; no
/// rate leaves [1/4, 4].
RateCalibration calibrate(const RateCalibration& known, const DeviceModel& device,
                          std::span<const TimedLaunch> launches);

/// "tensor=0.98:12.5 ... measurements=48": factors and how certain they are.
std::string to_text(const RateCalibration& calibration);
/// Nothing for what to_text did not write.
std::optional<RateCalibration> calibration_of(std::string_view text);

}  // namespace harrier::autotune
