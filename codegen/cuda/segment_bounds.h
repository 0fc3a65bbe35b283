// Documents as intervals: where equal segment ids stand side by side, a query sees one stretch of keys, and its ends
// are read from arrays. No lists, no comparisons in full tiles.
#pragma once

#include <string>

#include "ir/lowered.h"

namespace harrier {

/// Arrays of where the segment of each key token begins and ends (one past), as positions in its sequence: int32 [key
/// tokens], "NAME.begin" and "NAME.end" for segments @NAME. Non-falling inside a sequence.
inline constexpr const char* kSegmentBegin = ".begin";
inline constexpr const char* kSegmentEnd = ".end";

/// Whether `array` is one of those: read at the query's own position, it does not fall as the query grows.
bool is_segment_bound(const std::string& array);

/// The pattern with the ids of documents(@NAME) compared by these arrays, which stand behind the pattern's own, begin
/// before end, segments in order of first appearance. The same pattern where it has no documents.
LoweredPattern bound_segments(const LoweredPattern& lowered);

}  // namespace harrier
