#include "ir/lowered.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ir/text.h"

namespace harrier {
namespace {

const char* name_of(ArraySlot::Element element) {
  switch (element) {
    case ArraySlot::Element::kInt32:
      return "int32";
    case ArraySlot::Element::kUInt8:
      return "uint8";
    case ArraySlot::Element::kFloat32:
      break;
  }
  return "float32";
}

std::string print_softmax(const LoweredPattern& lowered) {
  switch (lowered.softmax) {
    case SoftmaxKind::kStandard:
      return "standard";
    case SoftmaxKind::kPrunedAsZero:
      return "pruned_as_zero";
    case SoftmaxKind::kSinkLogit:
      break;
  }
  return fmt::format("sink_logit(@{})", lowered.sink_logits);
}

std::string print_slots(const std::vector<ArraySlot>& slots) {
  std::string text;
  for (const ArraySlot& slot : slots) {
    fmt::format_to(std::back_inserter(text), " @{}: {} rank {};", slot.name, name_of(slot.element), slot.rank);
  }
  return text.empty() ? " none" : text;
}

}  // namespace

std::string structural_text(const LoweredPattern& lowered) {
  return fmt::format("visible {}\nscore {}\nsoftmax {}\ncounted {}\ntable_slots {}\narrays{}\n",
                     lowered.visible ? print(*lowered.visible) : "everywhere", print(lowered.score),
                     print_softmax(lowered), lowered.counted, lowered.table_slots, print_slots(lowered.arrays));
}

std::string print(const LoweredPattern& lowered) {
  return fmt::format("{}int_values [{}]\nfloat_values [{}]\n", structural_text(lowered),
                     fmt::join(lowered.int_values, ", "), fmt::join(lowered.float_values, ", "));
}

std::string print(const ScoreSlopes& slopes) {
  std::string text = fmt::format("in s: {}\n", print(slopes.in_dot));
  for (const LoadSlope& each : slopes.in_loads) {
    fmt::format_to(std::back_inserter(text), "in {}: {}\n", print(Expression{each.load}), print(each.slope));
  }
  return text;
}

}  // namespace harrier
