// Every kind of mask, by name.
#pragma once

#include <vector>

#include "ir/pattern.h"

namespace harrier::test {

struct NamedMask {
  const char* name;
  Mask mask;
};

inline std::vector<NamedMask> masks() {
  return {{"all", all()},
          {"none", none()},
          {"causal", causal()},
          {"window", window(70, 33)},
          {"open_window", window(0, kUnbounded)},
          {"dilated", dilated(90, 90, 3)},
          {"sink", sink(5)},
          {"global_first", global_tokens(3)},
          {"global_tokens", global_tokens("tokens")},
          {"global_columns", global_tokens("tokens", GlobalSide::kKeys)},
          {"documents", documents("segment")},
          {"blocks16", blocks(16, "table")},
          {"blocks64_counted", blocks(64, "table", true)},
          {"blocks128", blocks(128, "table")},
          {"lists32_counted", block_lists(32, "offsets", "indices", true)},
          {"bigbird16_zero", bigbird(16, 2, BigBirdZero{})},
          {"bigbird64_table", bigbird(64, 2, BigBirdTable{"random"})},
          {"bits", bits("mask")},
          {"window_and_sink", (window(64, 0) & causal()) | sink(4)},
          {"causal_documents", documents("segment") & causal()},
          {"not_window", ~window(10, 10)},
          {"blocks_and_causal", (blocks(32, "table") & causal()) | global_tokens(2)},
          {"bigbird_and_causal", bigbird(64, 3, BigBirdTable{"random"}) & causal()},
          {"two_tables", blocks(32, "table") & blocks(64, "other")}};
}

}  // namespace harrier::test
