// How long a backward launch takes, as cost_model.h has it for a forward one: columns of keys against the units of a
// multiprocessor, in the order in which they are taken, with the kernels before and behind them.
#pragma once

#include "autotune/cost_model.h"

namespace harrier::autotune {

/// What a tile asks of the units of a multiprocessor in the kernel that walks columns: five products on sm_90a, and dQ
/// added up in L2; four of sm_80's family.
TileClocks column_clocks(const CudaPlan& plan, const Shape& shape, const DeviceModel& device);

/// Of sm_80's family, in the second kernel, which walks rows: S and dP once more, and dQ.
TileClocks row_clocks(const CudaPlan& plan, const Shape& shape, const DeviceModel& device);

/// `rows` are of this plan's tiles and have columns.
LaunchCost backward_launch_cost(const CudaPlan& plan, const CudaSchedule& schedule, const Shape& shape,
                                const BatchRows& rows, const DeviceModel& device);

}  // namespace harrier::autotune
