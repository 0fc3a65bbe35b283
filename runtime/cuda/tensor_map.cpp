#include "runtime/cuda/tensor_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ir/error.h"

namespace harrier::cuda {
namespace {

constexpr int64_t kElementBytes = 2;
constexpr int64_t kAlignmentBytes = 16;
constexpr int64_t kStrideLimit = int64_t{1} << 40;
constexpr int64_t kPlacesLimit = int64_t{1} << 32;  // of a dimension

void check_alignment(int64_t bytes, const char* what, const char* which) {
  if (bytes % kAlignmentBytes == 0 && bytes >= 0 && bytes < kStrideLimit) return;
  throw InvalidInput(
      fmt::format("{}: its {} is {} bytes, the copy engine takes multiples of {} below 2^40: copy it to a "
                  "dense tensor whose head dim is a multiple of 8",
                  what, which, bytes, kAlignmentBytes));
}

void check_places(int64_t places, const char* what, const char* of) {
  if (places < kPlacesLimit) return;
  throw InvalidInput(
      fmt::format("{} has {} {}, the copy engine takes less than {}: split it", what, places, of, kPlacesLimit));
}

}  // namespace

TensorMapBytes encode_ragged_map(const Driver& driver, const MappedTensor& tensor, const MapBox& box, int ragged_log2,
                                 const char* what) {
  const uint64_t ragged = uint64_t{1} << ragged_log2;
  if (tensor.data % kAlignmentBytes != 0) {
    throw InvalidInput(fmt::format("{} starts at {:#x}, the copy engine needs a multiple of {}: copy it", what,
                                   tensor.data, kAlignmentBytes));
  }
  const int64_t token_bytes = tensor.token_stride * kElementBytes;
  // A dimension of one place needs a stride all the same.
  const int64_t head_bytes = tensor.heads > 1 ? tensor.head_stride * kElementBytes : kAlignmentBytes;
  const int64_t batch_bytes = tensor.batches > 1 ? tensor.batch_stride * kElementBytes : kAlignmentBytes;
  check_alignment(token_bytes, what, "stride from token to token");
  check_alignment(head_bytes, what, "stride from head to head");
  check_alignment(batch_bytes, what, "stride from batch row to batch row");
  if (static_cast<uint64_t>(token_bytes) > tensor.data >> ragged_log2) {
    throw InvalidInput(
        fmt::format("{}: its stride from token to token is {} bytes, at {:#x} the copy engine takes up to {}: copy it "
                    "to a dense tensor",
                    what, token_bytes, tensor.data, tensor.data >> ragged_log2));
  }
  check_places(tensor.tokens, what, "tokens");
  check_places(tensor.heads, what, "heads");
  check_places(tensor.batches, what, "batch rows");
  const std::array<uint64_t, 5> dimensions = {
      static_cast<uint64_t>(tensor.columns), ragged, static_cast<uint64_t>(std::max<int64_t>(tensor.heads, 1)),
      static_cast<uint64_t>(tensor.tokens + 1), static_cast<uint64_t>(std::max<int64_t>(tensor.batches, 1))};
  const std::array<uint64_t, 4> strides = {static_cast<uint64_t>(token_bytes), static_cast<uint64_t>(head_bytes),
                                           static_cast<uint64_t>(token_bytes), static_cast<uint64_t>(batch_bytes)};
  const std::array<uint32_t, 5> boxes = {static_cast<uint32_t>(box.columns), static_cast<uint32_t>(box.rows), 1, 1, 1};
  const std::array<uint32_t, 5> steps = {1, 1, 1, 1, 1};
  const DevicePointer base = tensor.data - ragged * static_cast<uint64_t>(token_bytes);
  // A variable of its own: the driver insists on its alignment, and GCC 12 does not align results that callers discard.
  TensorMapBytes map{};
  check(
      driver,
      driver.tensor_map_encode(&map, tensor.dtype == DataType::kBFloat16 ? kTensorMapBFloat16 : kTensorMapFloat16, 5,
                               reinterpret_cast<void*>(base),  // NOLINT(performance-no-int-to-ptr): the driver's type
                               dimensions.data(), strides.data(), boxes.data(), steps.data(), 0,
                               box.columns == 64 ? kTensorMapSwizzle128 : kTensorMapSwizzle64, kTensorMapPromote256, 0),
      fmt::format("describing {} to the copy engine", what));
  return TensorMapBytes(map);
}

}  // namespace harrier::cuda
