// cp.async: 16-byte copies of one thread, done when it waits for them and not before.
#include <fmt/format.h>

#include <cstring>

#include "fibers.h"

#define EXPORT __attribute__((visibility("default")))

namespace harrier::emulated {
namespace {

struct Copy {
  std::uint32_t destination;
  const void* source;
  int bytes;
};

struct Copies : ThreadExtension {
  std::vector<std::vector<Copy>> groups;
  std::vector<Copy> open;
  std::string unfinished() const override {
    std::size_t count = open.size();
    for (const auto& group : groups) count += group.size();
    return count == 0 ? "" : fmt::format("exits while {} asynchronous copies are in flight", count);
  }
};

Copies& copies() { return extension<Copies>(current_thread(), kCopies); }

void finish(const Copy& copy) {
  unsigned char* destination = shared_bytes_at(copy.destination, 16, 16, "cp.async");
  std::memset(destination, 0, 16);
  std::memcpy(destination, copy.source, static_cast<std::size_t>(copy.bytes));
}

}  // namespace
}  // namespace harrier::emulated

using namespace harrier::emulated;

extern "C" {

EXPORT void harrier_emulated_copy_async(unsigned destination, const void* source, int source_bytes) {
  if (source_bytes < 0 || source_bytes > 16) fault(Outcome::kFailed, fmt::format("cp.async of {} bytes", source_bytes));
  if (source_bytes > 0 && reinterpret_cast<std::uintptr_t>(source) % 16 != 0) {
    fault(Outcome::kMisaligned, fmt::format("cp.async from {}, not a multiple of 16", source));
  }
  std::memset(shared_bytes_at(destination, 16, 16, "cp.async"), 0xff, 16);
  copies().open.push_back({destination, source, source_bytes});
}

EXPORT void harrier_emulated_commit_copies() {
  Copies& mine = copies();
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

EXPORT void harrier_emulated_wait_copies(int pending) {
  Copies& mine = copies();
  while (mine.groups.size() > static_cast<std::size_t>(pending)) {
    for (const Copy& copy : mine.groups.front()) finish(copy);
    mine.groups.erase(mine.groups.begin());
  }
}
}
