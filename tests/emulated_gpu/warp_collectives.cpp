#include "warp_collectives.h"

#include <fmt/format.h>

#include <cstring>

#include "fibers.h"

#define EXPORT __attribute__((visibility("default")))

namespace harrier::emulated {
namespace {

/// Lanes that are to come together, by their mask. The values of two meetings are kept: a lane can be at most one
/// meeting ahead of one that still reads.
struct Meeting {
  std::uint32_t mask = 0;
  std::uint32_t arrived = 0;
  const char* name = nullptr;
  int buffer = 0;
  std::uint64_t values[2][32] = {};
};

constexpr int kWarps = 32;
std::vector<std::unique_ptr<Meeting>> meetings[kWarps];

Meeting& meeting_of(int warp, std::uint32_t mask) {
  for (const auto& meeting : meetings[warp]) {
    if (meeting->mask == mask) return *meeting;
  }
  meetings[warp].push_back(std::make_unique<Meeting>());
  meetings[warp].back()->mask = mask;
  return *meetings[warp].back();
}

}  // namespace

void reset_meetings() {
  for (auto& warp : meetings) warp.clear();
}

Parked exchange_meetings(Parked other) {
  struct State : ParkedState {
    std::vector<std::unique_ptr<Meeting>> meetings[kWarps];
  };
  if (other == nullptr) other = std::make_unique<State>();
  std::swap(meetings, static_cast<State&>(*other).meetings);
  return other;
}

const std::uint64_t* meet(std::uint32_t mask, const char* name, std::uint64_t value, Together together) {
  Thread& self = current_thread();
  const std::uint32_t bit = 1u << self.lane();
  const int first = self.warp() * 32;
  const int lanes = thread_count() - first;
  if ((mask & bit) == 0)
    fault(Outcome::kFailed, fmt::format("{} with mask {:#x}, which lacks lane {}", name, mask, self.lane()));
  if (lanes < 32 && mask != kWholeWarp && (mask >> lanes) != 0) {
    fault(Outcome::kFailed, fmt::format("{} with mask {:#x}: the warp has {} lanes", name, mask, lanes));
  }
  Meeting& meeting = meeting_of(self.warp(), mask);
  if (meeting.arrived != 0 && meeting.name != name && std::strcmp(meeting.name, name) != 0) {
    fault(Outcome::kFailed, fmt::format("{} while other lanes of mask {:#x} are at {}", name, mask, meeting.name));
  }
  meeting.name = name;
  meeting.arrived |= bit;
  const int buffer = meeting.buffer;
  meeting.values[buffer][self.lane()] = value;
  // A last warp that is not whole may still be addressed as a whole one.
  const std::uint32_t wanted = lanes < 32 ? mask & ((1u << lanes) - 1) : mask;
  if (meeting.arrived != wanted) {
    block({"{2} of lanes {0:#x}", mask, 0, name});
    return meeting.values[buffer];
  }
  meeting.arrived = 0;
  meeting.buffer ^= 1;
  if (together != nullptr) together(meeting.values[buffer], wanted);
  for (int lane = 0; lane < 32; ++lane) {
    if ((wanted & ~bit & (1u << lane)) != 0) make_ready(thread_at(first + lane));
  }
  return meeting.values[buffer];
}

}  // namespace harrier::emulated

extern "C" EXPORT const unsigned long long* harrier_emulated_meet(unsigned mask, const char* name,
                                                                  unsigned long long value) {
  return reinterpret_cast<const unsigned long long*>(harrier::emulated::meet(mask, name, value, nullptr));
}
