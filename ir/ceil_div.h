// Division of counts that rounds up.
#pragma once

#include <cstdint>

namespace harrier {

/// How many parts of size `by` hold `value` things; both are counts, `by` is not 0.
constexpr int64_t ceil_div(int64_t value, int64_t by) { return value / by + (value % by != 0 ? 1 : 0); }

}  // namespace harrier
