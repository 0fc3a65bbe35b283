// Bulk tensor copies. Loads end as late as they may, so that who reads without waiting sees NaN; stores read shared
// memory as late as they may, so that who overwrites it too early is seen.
#include <fmt/format.h>

#include <cstring>
#include <optional>

#include "fibers.h"
#include "memory.h"
#include "tensor_map.h"

#define EXPORT __attribute__((visibility("default")))

namespace harrier::emulated {

void bring_bytes(std::uint32_t barrier, std::uint32_t bytes);
void check_barrier(std::uint32_t barrier, const char* what);

namespace {

struct Box {
  EncodedMap map;
  std::int64_t place[kMaxRank];
  std::uint32_t shared;

  std::uint32_t row_bytes() const { return std::uint32_t{map.box[0]} * map.element_bytes; }
  std::uint32_t rows() const {
    std::uint32_t count = 1;
    for (int i = 1; i < map.rank; ++i) count *= map.box[i];
    return count;
  }
  std::uint32_t bytes() const { return rows() * row_bytes(); }
};

std::string print_places(const Box& box) {
  std::string text;
  for (int i = 0; i < box.map.rank; ++i) {
    text += fmt::format("{}{} of {}", i == 0 ? "" : ", ", box.place[i], std::int64_t{box.map.last_place[i]} + 1);
  }
  return text;
}

Box read_box(const char* what, std::uint32_t shared, const void* map, const int* coordinates, int rank) {
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0) {
    fault(Outcome::kMisaligned, fmt::format("{}: the tensor map is not aligned to 64 bytes", what));
  }
  Box box;
  std::memcpy(&box.map, map, sizeof box.map);
  if (box.map.mark != kMapMark) fault(Outcome::kFailed, fmt::format("{}: not an encoded tensor map", what));
  if (box.map.rank != rank) {
    fault(Outcome::kFailed, fmt::format("{}: {} coordinates for a tensor map of rank {}", what, rank, box.map.rank));
  }
  box.shared = shared;
  for (int i = 0; i < rank; ++i) box.place[i] = coordinates[i];
  shared_bytes_at(shared, box.bytes(), 128, what);
  for (int i = 0; i < rank; ++i) {
    if (box.place[i] <= std::int64_t{box.map.last_place[i]} && box.place[i] + box.map.box[i] > 0) continue;
    fault(Outcome::kFailed, fmt::format("{}: a box that lies wholly out of bounds, at {}", what, print_places(box)));
  }
  return box;
}

/// Calls `visit(row, data, first, count)` for each row of the box: `data` is the row's element at place[0], elements
/// [first, first + count) of it are in bounds.
template <class Visit>
void for_rows(const Box& box, const Visit& visit) {
  const EncodedMap& map = box.map;
  const std::int64_t size = std::int64_t{map.last_place[0]} + 1;
  const std::int64_t first = box.place[0] < 0 ? -box.place[0] : 0;
  const std::int64_t end = std::min<std::int64_t>(map.box[0], size - box.place[0]);
  for (std::uint32_t row = 0; row < box.rows(); ++row) {
    std::uint32_t rest = row;
    std::uint64_t address = map.address + static_cast<std::uint64_t>(box.place[0]) * map.element_bytes;
    bool inside = true;
    for (int i = 1; i < map.rank; ++i) {
      const std::int64_t place = box.place[i] + rest % map.box[i];
      rest /= map.box[i];
      inside = inside && place >= 0 && place <= std::int64_t{map.last_place[i]};
      address += static_cast<std::uint64_t>(place) * map.strides[i - 1];
    }
    visit(row, address, static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(inside ? end - first : 0));
  }
}

unsigned char* device_bytes(const Box& box, const char* what, std::uint64_t address, std::uint32_t bytes) {
  auto* data = reinterpret_cast<unsigned char*>(address);
  if (!is_device_memory(data, bytes)) {
    fault(Outcome::kIllegalAddress,
          fmt::format("{}: a box at {} reaches {:#x}, which is not device memory", what, print_places(box), address));
  }
  return data;
}

/// Moves a row between a plain buffer and its place in swizzled shared memory.
template <bool kToShared>
void move_row(const Box& box, unsigned char* buffer, std::uint32_t row) {
  unsigned char* base = shared_bytes_at(box.shared, box.bytes(), 128, "a bulk copy") - box.shared;
  for (std::uint32_t byte = 0; byte < box.row_bytes(); byte += 16) {
    const std::uint32_t place = swizzled(box.map.swizzle, box.shared + row * box.row_bytes() + byte);
    if constexpr (kToShared) {
      std::memcpy(base + place, buffer + byte, 16);
    } else {
      std::memcpy(buffer + byte, base + place, 16);
    }
  }
}

void load(const Box& box, std::uint32_t barrier) {
  unsigned char buffer[256 * 16];
  for_rows(box, [&](std::uint32_t row, std::uint64_t address, std::uint32_t first, std::uint32_t count) {
    const std::uint32_t element = box.map.element_bytes;
    std::memset(buffer, 0, box.row_bytes());
    if (count > 0) {
      const std::uint64_t from = address + first * element;
      std::memcpy(buffer + first * element, device_bytes(box, "a bulk load", from, count * element), count * element);
    }
    move_row<true>(box, buffer, row);
  });
  bring_bytes(barrier, box.bytes());
}

void store(const Box& box) {
  unsigned char buffer[256 * 16];
  for_rows(box, [&](std::uint32_t row, std::uint64_t address, std::uint32_t first, std::uint32_t count) {
    const std::uint32_t element = box.map.element_bytes;
    move_row<false>(box, buffer, row);
    if (count == 0) return;
    const std::uint64_t to = address + first * element;
    std::memcpy(device_bytes(box, "a bulk store", to, count * element), buffer + first * element, count * element);
  });
}

struct Stores : ThreadExtension {
  std::vector<Box> boxes;
  std::size_t committed = 0;
  std::string unfinished() const override {
    return boxes.empty() ? "" : fmt::format("exits while {} bulk stores may still read shared memory", boxes.size());
  }
};

Stores& stores() { return extension<Stores>(current_thread(), kStores); }

}  // namespace
}  // namespace harrier::emulated

using namespace harrier::emulated;

extern "C" {

EXPORT void harrier_emulated_load_box(unsigned destination, const void* map, unsigned barrier, const int* coordinates,
                                      int rank) {
  const Box box = read_box("a bulk load", destination, map, coordinates, rank);
  check_barrier(barrier, "a bulk load");
  std::memset(shared_bytes_at(destination, box.bytes(), 128, "a bulk load"), 0xff, box.bytes());
  defer([box, barrier] { load(box, barrier); });
}

EXPORT void harrier_emulated_store_box(unsigned source, const void* map, const int* coordinates, int rank) {
  stores().boxes.push_back(read_box("a bulk store", source, map, coordinates, rank));
}

EXPORT void harrier_emulated_commit_stores() { stores().committed = stores().boxes.size(); }

EXPORT void harrier_emulated_wait_stores() {
  Stores& mine = stores();
  for (std::size_t i = 0; i < mine.committed; ++i) store(mine.boxes[i]);
  mine.boxes.erase(mine.boxes.begin(), mine.boxes.begin() + static_cast<std::ptrdiff_t>(mine.committed));
  mine.committed = 0;
}
}
