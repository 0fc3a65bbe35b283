// Any bytes: parse refuses them or gives a workload; what verify accepts survives print and parse unchanged, and so
// does its canonical text.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "ir/error.h"
#include "ir/lexer.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace {

bool is_verified(const harrier::Workload& workload) {
  try {
    harrier::verify(workload);
    return true;
  } catch (const harrier::InvalidInput&) {
    return false;
  }
}

void check_round_trip(const harrier::Workload& workload) {
  if (harrier::parse_workload(harrier::print(workload)) != workload) __builtin_trap();
  const std::string canonical = harrier::canonical_text(workload.pattern, workload.shape);
  const harrier::Workload read = harrier::parse_workload("attention { " + canonical + " }");
  if (read.pattern != workload.pattern || read.shape != workload.shape) __builtin_trap();
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer gives the name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  harrier::Workload workload;
  try {
    workload = harrier::parse_workload(text);
  } catch (const harrier::InvalidInput&) {
    return 0;
  }
  // Printing spells out defaults, so only a text well under the size limit must be readable again.
  if (size < harrier::kMaxTextBytes / 4 && is_verified(workload)) check_round_trip(workload);
  return 0;
}
