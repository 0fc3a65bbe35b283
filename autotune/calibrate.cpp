#include "autotune/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

namespace harrier::autotune {
namespace {

using Vector = std::array<double, kRates>;
using Matrix = std::array<Vector, kRates>;

constexpr double kModelError = 0.08;     // of the model with right rates, as a fraction of a time
constexpr double kUsualDeviation = 0.3;  // of a rate from its family's, before anything was measured
/// However many plans of a workload were timed, the model errs in the same way for all: they count as so many.
constexpr double kIndependent = 4;
/// GPUs are repaired, capped and given other drivers: what was learned may be unlearned.
constexpr double kMostCertainty = 1000;
constexpr double kFarthest = 4;
constexpr int kSteps = 4;

DeviceModel with_logarithms(DeviceModel device, const Vector& logarithms) {
  RateCalibration calibration;
  for (size_t i = 0; i < kRates; ++i) calibration.factor[i] = std::exp(logarithms[i]);
  return calibrated(device, calibration);
}

/// a x = b for a positive definite `a`, by elimination.
Vector solve(Matrix a, Vector b) {
  for (size_t column = 0; column < kRates; ++column) {
    for (size_t row = column + 1; row < kRates; ++row) {
      const double factor = a[row][column] / a[column][column];
      for (size_t i = column; i < kRates; ++i) a[row][i] -= factor * a[column][i];
      b[row] -= factor * b[column];
    }
  }
  Vector x{};
  for (size_t row = kRates; row-- > 0;) {
    double sum = b[row];
    for (size_t i = row + 1; i < kRates; ++i) sum -= a[row][i] * x[i];
    x[row] = sum / a[row][row];
  }
  return x;
}

std::optional<double> number_of(std::string_view text) {
  double number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || end != text.data() + text.size() || !std::isfinite(number)) return std::nullopt;
  return number;
}

}  // namespace

DeviceModel calibrated(DeviceModel device, const RateCalibration& calibration) {
  device.flops_per_clock *= calibration.factor[kTensor];
  device.exps_per_clock *= calibration.factor[kExponents];
  device.l2_bytes_per_clock *= calibration.factor[kL2];
  device.dram_gb_per_second *= calibration.factor[kDram];
  device.calibration.launch_us *= calibration.factor[kLaunch];
  return device;
}

RateCalibration calibrate(const RateCalibration& known, const DeviceModel& device,
                          std::span<const TimedLaunch> launches) {
  std::vector<const TimedLaunch*> timed;
  for (const TimedLaunch& launch : launches) {
    if (launch.us > 0 && std::isfinite(launch.us)) timed.push_back(&launch);
  }
  if (timed.empty()) return known;
  const auto count = static_cast<double>(timed.size());
  const double weight = std::min(1.0, kIndependent / count) / (kModelError * kModelError);
  constexpr double kBefore = 1 / (kUsualDeviation * kUsualDeviation);
  const double limit = std::log(kFarthest);
  Vector before{};
  for (size_t i = 0; i < kRates; ++i) before[i] = std::log(known.factor[i]);
  Vector now = before;
  Vector learned{};
  for (int step = 0; step < kSteps; ++step) {
    Matrix normal{};
    Vector gradient{};
    for (size_t i = 0; i < kRates; ++i) {
      const double certainty = kBefore + known.certainty[i];
      normal[i][i] = certainty;
      gradient[i] = certainty * (before[i] - now[i]);
    }
    for (const TimedLaunch* launch : timed) {
      constexpr double kStep = 0.02;
      const double modelled = std::log(launch->model_us(with_logarithms(device, now)));
      Vector slope{};
      for (size_t i = 0; i < kRates; ++i) {
        Vector moved = now;
        moved[i] += kStep;
        slope[i] = (std::log(launch->model_us(with_logarithms(device, moved))) - modelled) / kStep;
      }
      const double error = std::log(launch->us) - modelled;
      for (size_t i = 0; i < kRates; ++i) {
        gradient[i] += weight * slope[i] * error;
        for (size_t j = 0; j < kRates; ++j) normal[i][j] += weight * slope[i] * slope[j];
      }
    }
    const Vector change = solve(normal, gradient);
    for (size_t i = 0; i < kRates; ++i) {
      now[i] = std::clamp(now[i] + change[i], -limit, limit);
      learned[i] = normal[i][i] - kBefore - known.certainty[i];
    }
  }
  RateCalibration result;
  for (size_t i = 0; i < kRates; ++i) {
    result.factor[i] = std::exp(now[i]);
    result.certainty[i] = std::min(known.certainty[i] + learned[i], kMostCertainty);
  }
  result.measurements = known.measurements + std::ssize(timed);
  return result;
}

std::string to_text(const RateCalibration& calibration) {
  std::string text;
  for (size_t i = 0; i < kRates; ++i) {
    text += fmt::format("{}={}:{} ", kRateNames[i], calibration.factor[i], calibration.certainty[i]);
  }
  return text + fmt::format("measurements={}", calibration.measurements);
}

std::optional<RateCalibration> calibration_of(std::string_view text) {
  RateCalibration calibration;
  std::string_view rest = text;
  const auto next = [&rest](std::string_view start, char end) -> std::optional<double> {
    if (!rest.starts_with(start)) return std::nullopt;
    rest.remove_prefix(start.size());
    const size_t size = std::min(rest.find(end), rest.size());
    const std::optional<double> number = number_of(rest.substr(0, size));
    rest.remove_prefix(std::min(size + 1, rest.size()));
    return number;
  };
  for (size_t i = 0; i < kRates; ++i) {
    const std::optional<double> speed = next(std::string(kRateNames[i]) + "=", ':');
    const std::optional<double> certainty = next("", ' ');
    if (!speed || !certainty || *speed < 1 / kFarthest || *speed > kFarthest || *certainty < 0) return std::nullopt;
    calibration.factor[i] = *speed;
    calibration.certainty[i] = *certainty;
  }
  const std::optional<double> measurements = next("measurements=", ' ');
  if (!measurements || !rest.empty() || *measurements < 0) return std::nullopt;
  calibration.measurements = static_cast<int64_t>(*measurements);
  if (to_text(calibration) != text) return std::nullopt;
  return calibration;
}

}  // namespace harrier::autotune
