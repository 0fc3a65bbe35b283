// What a GPU can do per clock, as far as it ranks plans. Numbers of the hardware, and factors that were fitted to
// measured kernels.
#pragma once

#include <cstdint>

#include "ir/cuda_plan.h"

namespace harrier::autotune {

/// How far kernels stay from the peaks. Fitted by hand and random search to the eleven default times of an H100 in
/// bench/results/h100.json, which the model then gives within 8 % (root mean square of the logarithms; no other
/// measurement was held back to check it). Other GPUs have the same factors; how fast their units are is learned there
/// (calibrate.h).
struct Calibration {
  double overlap_of_one = 2.2;   // how well units overlap with one worker a multiprocessor: the exponent of a p-norm
  double overlap_of_many = 3.7;  // and with very many
  double row_clocks = 3000;      // of a row's start and end, in which its CTA multiplies nothing
  double partial_tile = 1.1;     // a tile with a mask, in tiles without
  double part_clocks = 1800;     // a part of a split row more than a row: its results are written and read again
  double launch_us = 4;          // of a kernel that does nothing

  // Of backward kernels, whose products wait for each other: by hand, to twenty times of an H100 (six workloads under
  // several plans and numbers of heads together), which the model then gives within 11 %.
  double backward_overlap_of_one = 1.95;  // with one CTA a multiprocessor
  double backward_overlap_of_many = 2.9;  // with several
  double backward_partial_tile = 1.1;
  double backward_kept_share = 0.4;  // of L2, for what columns read again and again
  double column_clocks = 10000;      // of a column's start and end
};

struct DeviceModel {
  int64_t multiprocessors = 132;
  double clock_ghz = 1.7;
  double flops_per_clock = 4096;  // of a multiprocessor's tensor cores, 16-bit factors
  double exps_per_clock = 16;     // of a multiprocessor, as are the next three
  double lanes_per_clock = 128;   // instructions of single lanes that are issued
  double shared_bytes_per_clock = 128;
  double l2_bytes_per_clock = 35;
  double dram_gb_per_second = 3350;
  int64_t l2_bytes = 52428800;
  Calibration calibration = {};
};

/// What is known of a GPU without measuring. A number that is 0 is not known and left at the family's default.
struct DeviceNumbers {
  int capability_major = 9;
  int capability_minor = 0;
  int64_t multiprocessors = 0;
  int64_t l2_bytes = 0;
  double dram_gb_per_second = 0;
};

/// The model of a GPU: an H100 scaled to it from compute capability 9 on, an A100 or a GPU of 8.6 and 8.9 before.
DeviceModel device_model(const DeviceNumbers& numbers);

}  // namespace harrier::autotune
