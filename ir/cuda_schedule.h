// How a launch is scheduled: numbers that change no code, so that they are chosen when lengths are known.
#pragma once

#include <string>

namespace harrier {

struct CudaSchedule {
  int heads_per_group = 1;  // heads whose rows (of gradients: columns) are taken together, for what they share in L2
  int split_tiles = 16;     // rows of more key tiles than this, and than a fair share, are split; 0: none is
  int split_capacity = 0;   // parts that there is room for: a fair share is what makes half as many of all rows
  bool operator==(const CudaSchedule&) const = default;
};

/// "8 heads together, rows past 16 key tiles split into at most 528 parts"
std::string print(const CudaSchedule& schedule);

/// Throws InvalidInput for numbers below 0, or no head together.
void verify(const CudaSchedule& schedule);

}  // namespace harrier
