#include "codegen/cuda/emit_mask.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "codegen/cuda/emit_expression.h"
#include "codegen/cuda/key_intervals.h"
#include "codegen/cuda/table_use.h"
#include "ir/error.h"
#include "ir/match.h"

namespace harrier {
namespace {

std::string bound_text(const LinearBound& bound, const std::vector<ArraySlot>& arrays) {
  std::string text;
  const auto add = [&](int sign, const std::string& term) {
    if (text.empty()) {
      text = sign < 0 ? "-" + term : term;
    } else {
      text += (sign < 0 ? " - " : " + ") + term;
    }
  };
  if (bound.query != 0) add(bound.query, "query");
  for (const auto& [sign, term] : bound.terms) {
    const std::string emitted = emit_cuda_expression(term, arrays);  // Int(x): a leaf
    add(sign, emitted.substr(4, emitted.size() - 5));
  }
  for (const auto& [sign, term] : bound.rising) {
    const auto slot = std::ranges::find(arrays, std::get<Load>(term.node).array, &ArraySlot::name);
    HARRIER_CHECK(slot != arrays.end(), "every loaded array has a slot");
    add(sign, fmt::format("load_at_query(at, {}, query)", slot - arrays.begin()));
  }
  if (bound.constant != 0 || text.empty())
    add(bound.constant < 0 ? -1 : 1, fmt::format("{}", std::abs(bound.constant)));
  return text;
}

/// The largest (or smallest) of several bounds.
std::string extreme(const std::vector<LinearBound>& bounds, const char* function, const std::string& unbounded,
                    const std::vector<ArraySlot>& arrays) {
  std::string text;
  for (const LinearBound& bound : bounds) {
    const std::string next = bound_text(bound, arrays);
    text = text.empty() ? next : fmt::format("{}({}, {})", function, text, next);
  }
  return text.empty() ? unbounded : text;
}

std::string interval_function(const char* head, const KeyIntervals& keys, bool queries,
                              const std::vector<ArraySlot>& arrays) {
  std::string text = fmt::format("  template <int kIndex>\n  static __device__ __forceinline__ Interval {} {{\n", head);
  for (size_t i = 0; i < keys.intervals.size(); ++i) {
    const KeyInterval& interval = keys.intervals[i];
    const std::string begin = queries ? extreme(interval.query_lower, "larger", "-kFarAway", arrays)
                                      : extreme(interval.key_lower, "larger", "0", arrays);
    const std::string end = queries ? extreme(interval.query_upper, "smaller", "kFarAway", arrays)
                                    : extreme(interval.key_upper, "smaller", "at.key_length", arrays);
    const bool last = i + 1 == keys.intervals.size();
    text += last ? fmt::format("    return {{{}, {}}};\n", begin, end)
                 : fmt::format("    if constexpr (kIndex == {}) return {{{}, {}}};\n", i, begin, end);
  }
  if (keys.intervals.empty()) text += "    return {0, 0};\n";
  return text + "  }\n";
}

std::string intervals_text(const LoweredPattern& lowered, const KeyIntervals& keys) {
  std::string text =
      fmt::format("  static constexpr int kIntervals = {};\n\n", std::max<size_t>(keys.intervals.size(), 1));
  text += interval_function("interval(const Position& at, int query)", keys, false, lowered.arrays);
  const bool conditional = std::ranges::any_of(keys.intervals, [](const KeyInterval& interval) {
    return !interval.query_lower.empty() || !interval.query_upper.empty();
  });
  if (conditional) text += "\n" + interval_function("queries(const Position& at)", keys, true, lowered.arrays);
  return text;
}

std::string predicate_text(const LoweredPattern& lowered, const CudaPlan& plan) {
  std::string text =
      "\n  static __device__ __forceinline__ int visible(const Position& at, int query, int key, int count) {\n";
  if (lowered.table_slots > 0 && plan.row_blocks > 1) {
    const int queries = row_queries(plan);
    text += fmt::format(
        "    count = ~(count - 1) >> (query % {} / {}) & 1;  // which blocks of the row's queries see the box\n",
        queries, queries / plan.row_blocks);
  }
  return text + fmt::format("    const Int q = query, k = key;\n    return {};\n  }}\n",
                            emit_cuda_count(*lowered.visible, lowered.arrays));
}

}  // namespace

CudaKeySource key_source_of(const LoweredPattern& lowered) {
  const bool looks_tables_up = std::ranges::any_of(
      lowered.arrays, [](const ArraySlot& slot) { return slot.name.starts_with(kTableArrayPrefix); });
  if (lowered.table_slots > 0 || looks_tables_up) return CudaKeySource::kLists;
  const KeyIntervals keys = key_intervals(lowered.visible);
  const bool bounded = std::ranges::all_of(keys.intervals, [](const KeyInterval& interval) {
    return !interval.key_lower.empty() && !interval.key_upper.empty();
  });
  return keys.exact || bounded ? CudaKeySource::kClosedForm : CudaKeySource::kLists;
}

std::string emit_cuda_mask(const LoweredPattern& lowered, const CudaPlan& plan, MaskUse use) {
  const bool lists = key_source_of(lowered) == CudaKeySource::kLists;
  std::string text = "struct Mask : NoMask {\n";
  if (lowered.counted) text += "  static constexpr bool kCounted = true;\n";
  if (lowered.additive_padding) text += "  static constexpr bool kAdditivePadding = true;\n";
  if (lowered.softmax == SoftmaxKind::kPrunedAsZero) text += "  static constexpr bool kPrunedAsZero = true;\n";
  const KeyIntervals keys = key_intervals(lowered.visible);
  const bool several_blocks = lowered.table_slots > 0 && plan.row_blocks > 1;
  const bool predicate = lists ? several_blocks || !is_table_alone(lowered) : !keys.exact;
  if (!lists || predicate) {
    text += fmt::format("  static constexpr MaskKind kKind = MaskKind::{};\n", predicate ? "kPredicate" : "kIntervals");
  }
  if (!lists || (predicate && use == MaskUse::kBuilder)) text += intervals_text(lowered, keys);
  if (predicate) text += predicate_text(lowered, plan);
  return text + "};\n\n";
}

int row_queries(const CudaPlan& plan) { return 64 * plan.consumers; }

std::string commented(const std::string& text) {
  std::istringstream lines(text);
  std::string result;
  for (std::string line; std::getline(lines, line);) result += "//   " + line + "\n";
  return result;
}

}  // namespace harrier
