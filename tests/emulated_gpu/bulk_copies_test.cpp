// Bulk copies: where a box's bytes lie in shared memory, what lies out of bounds, what tensor maps take.
#include <gmock/gmock.h>

#include <cstring>
#include <numeric>

#include "device.h"

namespace harrier::test {
namespace {

using testing::HasSubstr;

constexpr char kKernel[] = R"(
#include "codegen/cuda/kernels/ptx.cuh"
using namespace harrier;
extern "C" __global__ void __launch_bounds__(32) load(const __grid_constant__ TensorMap map, int bytes, int x, int y,
                                                      unsigned char* image) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const uint32 box = ptx::shared_address(memory), barrier = box + bytes;
  if (threadIdx.x == 0) {
    ptx::barrier_init(barrier, 1);
    ptx::barrier_expect(barrier, bytes);
    ptx::load_box(box, &map, barrier, x, y, 0, 0, 0, ptx::L2Policy::kEvictLast);
    for (int i = 0; i < bytes; ++i) if (memory[i] != 0xff) __trap();
  }
  __syncwarp();
  ptx::barrier_wait(barrier, 0);
  for (int i = threadIdx.x; i < bytes; i += 32) image[i] = memory[i];
}
extern "C" __global__ void __launch_bounds__(32) store(const __grid_constant__ TensorMap map, int bytes, int x, int y,
                                                       const unsigned char* image) {
  extern __shared__ __align__(1024) unsigned char memory[];
  for (int i = threadIdx.x; i < bytes; i += 32) memory[i] = image[i];
  ptx::fence_shared_for_async();
  __syncwarp();
  if (threadIdx.x != 0) return;
  ptx::store_box(ptx::shared_address(memory), &map, x, y, 0, 0, 0);
  ptx::commit_stores();
  ptx::wait_stores_read();
}
)";

constexpr int kRows = 24;
constexpr int kColumns = 80;

CUtensorMap encode(const std::uint16_t* data, int swizzle, unsigned box_columns, unsigned box_rows) {
  CUtensorMap map;
  const unsigned long long sizes[] = {kColumns, kRows, 1, 1, 1}, strides[] = {2 * kColumns, 16, 16, 16};
  const unsigned box[] = {box_columns, box_rows, 1, 1, 1}, steps[] = {1, 1, 1, 1, 1};
  check(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 5, const_cast<std::uint16_t*>(data), sizes,
                               strides, box, steps, 0, swizzle, 0, 0));
  return map;
}

std::vector<std::uint16_t> numbered() {
  std::vector<std::uint16_t> values(kRows * kColumns);
  std::iota(values.begin(), values.end(), std::uint16_t{1});
  return values;
}

class EmulatedBulkCopies : public testing::TestWithParam<int> {
 protected:
  int swizzle() const { return GetParam(); }
  unsigned columns() const { return swizzle() == 0 ? 24 : 8u << swizzle(); }

  const Context context_;
  const Module module_{kKernel};
};

TEST_P(EmulatedBulkCopies, PermuteTheChunksOfEveryEightRows) {
  const Buffer<std::uint16_t> tensor(numbered());
  const unsigned bytes = 16 * 2 * columns();
  const Buffer<std::uint16_t> image(bytes / 2);
  const CUtensorMap map = encode(tensor.data(), swizzle(), columns(), 16);
  check(launch(module_.kernel("load"), {1}, 32, bytes + 8, map, static_cast<int>(bytes), 8, 4, image.data()));
  const auto found = image.download();
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned column = 0; column < columns(); ++column) {
      // Rows of 128, 64 and 32 bytes: the pattern repeats after 8 rows, and a chunk moves by the row's number, its half
      // or its quarter.
      const unsigned step = swizzle() == 3 ? row % 8 : swizzle() == 2 ? row / 2 % 4 : swizzle() == 1 ? row / 4 % 2 : 0;
      const unsigned chunk = (column / 8) ^ step;
      const int expected = static_cast<int>((4 + row) * kColumns + 8 + column + 1);
      EXPECT_EQ(found[row * columns() + chunk * 8 + column % 8], expected) << row << ", " << column;
    }
  }
}

TEST_P(EmulatedBulkCopies, StoreWhatTheyLoad) {
  const Buffer<std::uint16_t> from(numbered()), to(kRows * kColumns);
  const unsigned bytes = 16 * 2 * columns();
  const Buffer<std::uint16_t> image(bytes / 2);
  check(launch(module_.kernel("load"), {1}, 32, bytes + 8, encode(from.data(), swizzle(), columns(), 16),
               static_cast<int>(bytes), 8, 16, image.data()));
  check(launch(module_.kernel("store"), {1}, 32, bytes, encode(to.data(), swizzle(), columns(), 16),
               static_cast<int>(bytes), 8, 16, image.data()));
  const auto found = to.download();
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < kColumns; ++column) {
      const bool inside = row >= 16 && column >= 8 && column < 8 + static_cast<int>(columns());
      EXPECT_EQ(found[row * kColumns + column], inside ? row * kColumns + column + 1 : 0xffff) << row << ", " << column;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Swizzles, EmulatedBulkCopies, testing::Values(0, 1, 2, 3));

TEST(EmulatedBulkCopiesBounds, ReadZerosOutside) {
  const Context context;
  const Module module(kKernel);
  const Buffer<std::uint16_t> tensor(numbered()), image(16 * 64);
  check(launch(module.kernel("load"), {1}, 32, 2056, encode(tensor.data(), 3, 64, 16), 2048, 64, 20, image.data()));
  const auto found = image.download();
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 64; ++column) {
      const bool inside = row < 4 && column < 16;
      EXPECT_EQ(found[row * 64 + ((column / 8) ^ (row % 8)) * 8 + column % 8],
                inside ? (20 + row) * kColumns + 64 + column + 1 : 0);
    }
  }
}

TEST(EmulatedBulkCopiesBounds, FaultWhollyOutside) {
  const Context context;
  const Module module(kKernel);
  const Buffer<std::uint16_t> tensor(numbered()), image(16 * 64);
  testing::internal::CaptureStderr();
  EXPECT_EQ(
      launch(module.kernel("load"), {1}, 32, 2056, encode(tensor.data(), 3, 64, 16), 2048, 0, kRows, image.data()),
      CUDA_ERROR_LAUNCH_FAILED);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("wholly out of bounds, at 0 of 80, 24 of 24"));
}

TEST(EmulatedBulkCopiesBounds, FaultOutsideOfDeviceMemory) {
  const Context context;
  const Module module(kKernel);
  const Buffer<std::uint16_t> tensor(std::vector<std::uint16_t>(kRows * kColumns - 1)), image(16 * 64);
  testing::internal::CaptureStderr();
  EXPECT_EQ(launch(module.kernel("load"), {1}, 32, 2056, encode(tensor.data(), 3, 64, 16), 2048, 64, 20, image.data()),
            CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("which is not device memory"));
}

constexpr char kPlainBytes[] = R"(
#include "codegen/cuda/kernels/ptx.cuh"
using namespace harrier;
extern "C" __global__ void __launch_bounds__(32) copy(const float* from, float* to, int bytes, int shift) {
  extern __shared__ __align__(16) unsigned char memory[];
  const uint32 barrier = ptx::shared_address(memory), data = barrier + 16;
  if (threadIdx.x == 0) {
    ptx::barrier_init(barrier, 1);
    ptx::barrier_expect(barrier, bytes);
    ptx::load_bytes(data + shift, from, bytes, barrier);
    if (memory[16] != 0xff) __trap();  // not before the wait
  }
  __syncwarp();
  ptx::barrier_wait(barrier, 0);
  for (int i = threadIdx.x; i < bytes / 8; i += 32) {
    const float2 pair = ptx::load_pair(data + 8 * i);
    to[2 * i] = pair.x;
    to[2 * i + 1] = pair.y;
  }
}
// Adds 1, 2, 3 ... to sums with so many of both waits, and overwrites the first numbers after the first wait.
extern "C" __global__ void __launch_bounds__(32) add(float* sums, int bytes, int waits) {
  extern __shared__ __align__(16) unsigned char memory[];
  const uint32 data = ptx::shared_address(memory);
  if (threadIdx.x != 0) return;
  for (int i = 0; i < bytes / 16; ++i) ptx::store_four(data + 16 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3, 4 * i + 4);
  ptx::fence_shared_for_async();
  ptx::reduce_add(sums, data, bytes);
  ptx::commit_stores();
  const float before = sums[0];
  if (waits > 0) ptx::wait_stores_read();
  ptx::store_four(data, 100.0f, 100.0f, 100.0f, 100.0f);
  if (sums[0] != before) __trap();  // not before the other wait
  if (waits > 1) ptx::wait_stores();
  if (waits > 1) ptx::add_four(sums, 0.5f, 0.5f, 0.5f, 0.5f);
}
)";

TEST(EmulatedPlainBytes, ArriveWhenTheBarrierSaysSo) {
  const Context context;
  const Module module(kPlainBytes);
  std::vector<float> values(64);
  std::iota(values.begin(), values.end(), 1.0f);
  const Buffer<float> from(values), to(64);
  check(launch(module.kernel("copy"), {1}, 32, 16 + 256, from.data(), to.data(), 256, 0));
  EXPECT_EQ(to.download(), values);
}

TEST(EmulatedPlainBytes, AreAddedWhenTheyAreWaitedFor) {
  const Context context;
  const Module module(kPlainBytes);
  const Buffer<float> sums(std::vector<float>(8, 10.0f));
  check(launch(module.kernel("add"), {1}, 32, 32, sums.data(), 32, 2));
  EXPECT_EQ(sums.download(), (std::vector<float>{11.5f, 12.5f, 13.5f, 14.5f, 15, 16, 17, 18}));
}

TEST(EmulatedPlainBytes, RefuseMisuse) {
  struct Misuse {
    std::size_t first;  // element of `from`
    int bytes;
    int shift;  // of the place in shared memory
    CUresult result;
    const char* complaint;
  };
  for (const Misuse& misuse : {Misuse{1, 16, 0, CUDA_ERROR_MISALIGNED_ADDRESS, "multiples of 16 are needed"},
                               Misuse{0, 8, 0, CUDA_ERROR_MISALIGNED_ADDRESS, "a bulk load of 8 bytes"},
                               Misuse{0, 16, 8, CUDA_ERROR_MISALIGNED_ADDRESS, "a bulk load"},
                               Misuse{60, 32, 0, CUDA_ERROR_ILLEGAL_ADDRESS, "which is not device memory"}}) {
    const Context context;
    const Module module(kPlainBytes);
    const Buffer<float> from(64), to(8);
    testing::internal::CaptureStderr();
    EXPECT_EQ(launch(module.kernel("copy"), {1}, 32, 16 + 256, from.data() + misuse.first, to.data(), misuse.bytes,
                     misuse.shift),
              misuse.result);
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(misuse.complaint));
  }
}

TEST(EmulatedPlainBytes, RefuseToExitWithWorkUnderWay) {
  const auto complaint = [](int waits) {
    const Context context;
    const Module module(kPlainBytes);
    const Buffer<float> sums(std::vector<float>(8, 1.0f));
    testing::internal::CaptureStderr();
    EXPECT_EQ(launch(module.kernel("add"), {1}, 32, 32, sums.data(), 32, waits), CUDA_ERROR_LAUNCH_FAILED);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(complaint(0), HasSubstr("1 bulk stores may still read shared memory"));
  EXPECT_THAT(complaint(1), HasSubstr("1 bulk additions are under way"));
}

TEST(EmulatedTensorMap, RefusesWhatTheDocumentationDoes) {
  const Context context;
  const Buffer<std::uint16_t> tensor(numbered());
  struct Arguments {
    unsigned rank = 2;
    std::uintptr_t address;
    unsigned long long sizes[2] = {kColumns, kRows};
    unsigned long long stride = 2 * kColumns;
    unsigned box[2] = {64, 16};
    int swizzle = 3;
  };
  const Arguments good{.address = reinterpret_cast<std::uintptr_t>(tensor.data())};
  const auto encoded = [](const Arguments& a) {
    CUtensorMap map;
    const unsigned steps[] = {1, 1};
    return cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, a.rank, reinterpret_cast<void*>(a.address),
                                  a.sizes, &a.stride, a.box, steps, 0, a.swizzle, 0, 0);
  };
  EXPECT_EQ(encoded(good), CUDA_SUCCESS);
  const auto refused = [&](auto change) {
    Arguments bad = good;
    change(bad);
    return encoded(bad) == CUDA_ERROR_INVALID_VALUE;
  };
  EXPECT_TRUE(refused([](Arguments& a) { a.rank = 6; }));
  EXPECT_TRUE(refused([](Arguments& a) { a.address += 8; }));
  EXPECT_TRUE(refused([](Arguments& a) { a.stride = 168; }));
  EXPECT_TRUE(refused([](Arguments& a) { a.sizes[1] = 0; }));
  EXPECT_TRUE(refused([](Arguments& a) { a.sizes[1] = (1ull << 32) + 1; }));
  EXPECT_TRUE(refused([](Arguments& a) { a.box[1] = 257; }));
  EXPECT_TRUE(refused([](Arguments& a) { a.box[0] = 72; }));
  EXPECT_TRUE(refused([](Arguments& a) { a.box[0] = 60, a.swizzle = 0; }));
}

}  // namespace
}  // namespace harrier::test
