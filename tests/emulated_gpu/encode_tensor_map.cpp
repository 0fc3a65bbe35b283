// cuTensorMapEncodeTiled with the limits that its documentation names.
#include <cstdint>
#include <cstring>

#include "settings.h"
#include "state.h"
#include "tensor_map.h"

using namespace harrier::emulated;

namespace {

constexpr unsigned kElementBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};  // by CUtensorMapDataType
constexpr unsigned kSwizzleBytes[] = {0, 32, 64, 128};
constexpr std::uint64_t kMaxSize = std::uint64_t{1} << 32;
constexpr std::uint64_t kMaxStride = std::uint64_t{1} << 40;
constexpr unsigned kMaxBox = 256;

}  // namespace

HARRIER_EXPORT CUresult cuTensorMapEncodeTiled(CUtensorMap* map, int type, unsigned rank, void* address,
                                               const unsigned long long* sizes, const unsigned long long* strides,
                                               const unsigned* box, const unsigned* element_strides, int interleave,
                                               int swizzle, int promotion, int fill) {
  HARRIER_ENTER(Needs::kNothing);
  if (capability().major < 9) return CUDA_ERROR_NOT_SUPPORTED;
  if (map == nullptr || sizes == nullptr || box == nullptr || element_strides == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  if (rank < 1 || rank > kMaxRank || (rank > 1 && strides == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0) return CUDA_ERROR_INVALID_VALUE;
  if (address == nullptr || reinterpret_cast<std::uintptr_t>(address) % 16 != 0) return CUDA_ERROR_INVALID_VALUE;
  if (type < 0 || type > 12 || swizzle < 0 || swizzle > 3 || promotion < 0 || promotion > 3)
    return CUDA_ERROR_INVALID_VALUE;
  // What no kernel here uses is not emulated.
  if (interleave != 0 || fill != 0) return CUDA_ERROR_NOT_SUPPORTED;
  EncodedMap encoded{};
  encoded.mark = kMapMark;
  encoded.address = reinterpret_cast<std::uint64_t>(address);
  encoded.rank = static_cast<std::uint8_t>(rank);
  encoded.element_bytes = static_cast<std::uint8_t>(kElementBytes[type]);
  encoded.swizzle = static_cast<Swizzle>(swizzle);
  for (unsigned i = 0; i < rank; ++i) {
    if (sizes[i] == 0 || sizes[i] > kMaxSize || box[i] == 0 || box[i] > kMaxBox) return CUDA_ERROR_INVALID_VALUE;
    if (element_strides[i] == 0 || element_strides[i] > 8) return CUDA_ERROR_INVALID_VALUE;
    if (element_strides[i] != 1) return CUDA_ERROR_NOT_SUPPORTED;
    encoded.last_place[i] = static_cast<std::uint32_t>(sizes[i] - 1);
    encoded.box[i] = static_cast<std::uint16_t>(box[i]);
    if (i + 1 == rank) continue;
    if (strides[i] % 16 != 0 || strides[i] >= kMaxStride) return CUDA_ERROR_INVALID_VALUE;
    encoded.strides[i] = strides[i];
  }
  const unsigned row_bytes = box[0] * kElementBytes[type];
  if (row_bytes % 16 != 0) return CUDA_ERROR_INVALID_VALUE;
  if (swizzle != 0 && row_bytes > kSwizzleBytes[swizzle]) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(map, &encoded, sizeof encoded);
  return CUDA_SUCCESS;
}
