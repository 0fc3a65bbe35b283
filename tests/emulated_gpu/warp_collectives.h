// Meetings of a warp's lanes, on which shuffles, votes and matrix instructions are built.
#pragma once

#include <cstdint>

namespace harrier::emulated {

/// What the last lane to come does for all: `values` are what lanes gave, by lane.
using Together = void (*)(const std::uint64_t* values, std::uint32_t mask);

/// Waits until all lanes of `mask` have come with the same name. Returns what each gave; see harrier_emulated_meet.
const std::uint64_t* meet(std::uint32_t mask, const char* name, std::uint64_t value, Together together);

inline constexpr std::uint32_t kWholeWarp = 0xffffffffu;

}  // namespace harrier::emulated
