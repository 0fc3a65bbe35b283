#include "autotune/device_model.h"

namespace harrier::autotune {

DeviceModel device_model(const DeviceNumbers& numbers) {
  DeviceModel model;
  if (numbers.capability_major == 8 && numbers.capability_minor == 0) {
    model = {.multiprocessors = 108,
             .clock_ghz = 1.41,
             .flops_per_clock = 2048,
             .l2_bytes_per_clock = 32,
             .dram_gb_per_second = 1555,
             .l2_bytes = 41943040};
  } else if (numbers.capability_major == 8) {
    model = {.multiprocessors = 84,
             .clock_ghz = 1.8,
             .flops_per_clock = 1024,
             .l2_bytes_per_clock = 24,
             .dram_gb_per_second = 760,
             .l2_bytes = 6291456};
  }
  if (numbers.multiprocessors > 0) model.multiprocessors = numbers.multiprocessors;
  if (numbers.l2_bytes > 0) model.l2_bytes = numbers.l2_bytes;
  if (numbers.dram_gb_per_second > 0) model.dram_gb_per_second = numbers.dram_gb_per_second;
  return model;
}

}  // namespace harrier::autotune
