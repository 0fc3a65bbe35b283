// Tensor maps as cuTensorMapEncodeTiled stores them here, and the copies that use them.
#pragma once

#include <cstdint>

namespace harrier::emulated {

inline constexpr int kMaxRank = 5;

/// How 16-byte chunks are permuted in shared memory; values of CUtensorMapSwizzle.
enum class Swizzle : std::uint8_t { kNone = 0, k32 = 1, k64 = 2, k128 = 3 };

/// The 128 bytes of a CUtensorMap. Dimension 0 is contiguous; `strides` are of dimensions 1 and up, in bytes.
struct alignas(64) EncodedMap {
  std::uint64_t mark;
  std::uint64_t address;
  std::uint8_t rank;
  std::uint8_t element_bytes;
  Swizzle swizzle;
  std::uint32_t last_place[kMaxRank];  // sizes minus 1
  std::uint64_t strides[kMaxRank - 1];
  std::uint16_t box[kMaxRank];
};
static_assert(sizeof(EncodedMap) == 128);

inline constexpr std::uint64_t kMapMark = 0x70616d726f736e74ull;

/// The address at which the byte meant for `address` lies: its chunk number is XORed with higher address bits.
inline std::uint32_t swizzled(Swizzle swizzle, std::uint32_t address) {
  switch (swizzle) {
    case Swizzle::k128:
      return address ^ ((address >> 3) & 0x70);
    case Swizzle::k64:
      return address ^ ((address >> 3) & 0x30);
    case Swizzle::k32:
      return address ^ ((address >> 3) & 0x10);
    case Swizzle::kNone:
      break;
  }
  return address;
}

}  // namespace harrier::emulated
