// Tensors for tests: random values, conversion between double, fp32, bf16 and fp16, comparison.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "ir/workload.h"

namespace harrier {

/// Standard normal values, rounded to `dtype` so that reference and kernel read the same numbers.
std::vector<double> random_values(std::mt19937_64& random, int64_t count, DataType dtype);

/// Bytes of `values` in `dtype` (round to nearest even), and back.
std::vector<uint8_t> encode(const std::vector<double>& values, DataType dtype);
std::vector<double> decode(const std::vector<uint8_t>& bytes, DataType dtype);

/// Largest |actual - expected| / max(1, |expected|); NaN or an infinity on one side only gives infinity.
double max_error(const std::vector<double>& actual, const std::vector<double>& expected);

}  // namespace harrier
