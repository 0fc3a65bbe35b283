// Bulk copies, of tensors and of bytes. Loads end as late as they may, so that who reads without waiting sees NaN;
// stores read shared memory as late as they may, so that who overwrites it too early is seen.
#include <fmt/format.h>

#include <cstring>
#include <variant>
#include <vector>

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

/// Plain bytes between shared and device memory; as additions, of fp32 numbers to those in device memory.
struct Bytes {
  std::uint32_t shared;
  unsigned char* device;
  std::uint32_t count;
};

Bytes read_bytes(const char* what, std::uint32_t shared, const void* device, std::uint32_t count) {
  if (count % 16 != 0 || reinterpret_cast<std::uintptr_t>(device) % 16 != 0) {
    fault(Outcome::kMisaligned, fmt::format("{} of {} bytes at {}: multiples of 16 are needed", what, count, device));
  }
  shared_bytes_at(shared, count, 16, what);
  if (!is_device_memory(device, count)) {
    fault(Outcome::kIllegalAddress,
          fmt::format("{} of {} bytes at {}, which is not device memory", what, count, device));
  }
  return {shared, static_cast<unsigned char*>(const_cast<void*>(device)), count};
}

/// An addition whose shared memory was read.
struct Addition {
  float* to;
  std::vector<float> values;
};

Addition read_addition(const Bytes& bytes) {
  Addition addition{reinterpret_cast<float*>(bytes.device), std::vector<float>(bytes.count / sizeof(float))};
  std::memcpy(addition.values.data(), shared_bytes_at(bytes.shared, bytes.count, 16, "a bulk addition"), bytes.count);
  return addition;
}

/// What one thread has started. Tensors are written when their shared memory is read, sums when all is waited for.
struct Stores : ThreadExtension {
  using Store = std::variant<Box, Bytes>;
  std::vector<Store> open;
  std::vector<std::vector<Store>> groups;
  std::vector<Addition> unwritten;
  std::string unfinished() const override {
    std::size_t unread = open.size();
    for (const auto& group : groups) unread += group.size();
    if (unread > 0) return fmt::format("exits while {} bulk stores may still read shared memory", unread);
    return unwritten.empty() ? "" : fmt::format("exits while {} bulk additions are under way", unwritten.size());
  }
};

/// Returns when no other thread can go on: a store may take that long.
void wait_for_others(const char* what) {
  Thread& self = current_thread();
  defer([&self] { make_ready(self); });
  block({"{2}", 0, 0, what});
}

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
  stores().open.push_back(read_box("a bulk store", source, map, coordinates, rank));
}

EXPORT void harrier_emulated_load_bytes(unsigned destination, const void* source, unsigned bytes, unsigned barrier) {
  const Bytes copy = read_bytes("a bulk load", destination, source, bytes);
  check_barrier(barrier, "a bulk load");
  std::memset(shared_bytes_at(destination, bytes, 16, "a bulk load"), 0xff, bytes);
  defer([copy, barrier] {
    std::memcpy(shared_bytes_at(copy.shared, copy.count, 16, "a bulk load"), copy.device, copy.count);
    bring_bytes(barrier, copy.count);
  });
}

EXPORT void harrier_emulated_reduce_add(float* destination, unsigned source, unsigned bytes) {
  stores().open.push_back(read_bytes("a bulk addition", source, destination, bytes));
}

EXPORT void harrier_emulated_commit_stores() {
  Stores& mine = stores();
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

EXPORT void harrier_emulated_wait_stores_read(int pending) {
  Stores& mine = stores();
  if (mine.groups.size() > static_cast<std::size_t>(pending)) wait_for_others("bulk stores that read shared memory");
  while (mine.groups.size() > static_cast<std::size_t>(pending)) {
    for (const Stores::Store& each : mine.groups.front()) {
      if (const Box* box = std::get_if<Box>(&each)) {
        store(*box);
      } else {
        mine.unwritten.push_back(read_addition(std::get<Bytes>(each)));
      }
    }
    mine.groups.erase(mine.groups.begin());
  }
}

EXPORT void harrier_emulated_wait_stores() {
  harrier_emulated_wait_stores_read(0);
  if (!stores().unwritten.empty()) wait_for_others("bulk additions");
  for (const Addition& addition : stores().unwritten) {
    for (std::size_t i = 0; i < addition.values.size(); ++i) addition.to[i] += addition.values[i];
  }
  stores().unwritten.clear();
}
}
