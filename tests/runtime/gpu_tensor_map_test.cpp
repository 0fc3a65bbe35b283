// Tensor maps: what the copy engine cannot read is refused by the stride or address, the limit and the remedy.
#include "device_failure.h"
#include "emulated_device.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/tensor_map.h"
#include "support/setting.h"

namespace harrier::cuda {
namespace {

using test::IsOneLineWithARemedy;
using test::message_of;
using testing::AllOf;
using testing::HasSubstr;

constexpr int kRaggedLog2 = 27;

class TensorMapTest : public testing::Test {
 protected:
  /// 100 tokens of 4 heads of 64 columns.
  MappedTensor tensor() const {
    return {.data = memory_.pointer(),
            .dtype = DataType::kBFloat16,
            .batches = 1,
            .tokens = 100,
            .heads = 4,
            .columns = 64,
            .batch_stride = 0,
            .token_stride = 256,
            .head_stride = 64};
  }

  TensorMapBytes encode(const MappedTensor& tensor) const {
    return encode_ragged_map(device_->driver(), tensor, {.rows = 64, .columns = 64}, kRaggedLog2, "k");
  }

  template <typename Change>
  std::string refusal(Change&& change) const {
    MappedTensor changed = tensor();
    change(changed);
    return message_of<InvalidInput>([&] { encode(changed); });
  }

  DeviceHandle device_ = test::open_emulated();
  DeviceMemory memory_{device_, 100 * 256 * 2};
};

TEST_F(TensorMapTest, TensorsThatAreAlignedAreTaken) {
  EXPECT_NO_THROW(encode(tensor()));
  MappedTensor changed = tensor();
  changed.dtype = DataType::kFloat16;
  EXPECT_NO_THROW(encode(changed));
  changed.batches = 3;
  changed.batch_stride = 8;
  EXPECT_NO_THROW(encode(changed)) << "batch rows may overlap";
}

TEST_F(TensorMapTest, StrideOfADimensionOfOnePlaceIsNotLookedAt) {
  MappedTensor changed = tensor();
  changed.heads = 1;
  changed.head_stride = 3;
  changed.batch_stride = -5;
  EXPECT_NO_THROW(encode(changed));
}

TEST_F(TensorMapTest, AddressesMustBeAligned) {
  const std::string message = refusal([](MappedTensor& tensor) { tensor.data += 8; });
  EXPECT_THAT(message,
              testing::MatchesRegex("k starts at 0x[0-9a-f]+8, the copy engine needs a multiple of 16: copy it"));
}

TEST_F(TensorMapTest, StridesMustBeMultiplesOfSixteenBytes) {
  EXPECT_EQ(refusal([](MappedTensor& tensor) { tensor.token_stride = 260; }),
            "k: its stride from token to token is 520 bytes, the copy engine takes multiples of 16 below 2^40: copy it "
            "to a dense tensor whose head dim is a multiple of 8");
  EXPECT_THAT(refusal([](MappedTensor& tensor) { tensor.head_stride = 68; }),
              HasSubstr("its stride from head to head is 136 bytes"));
  EXPECT_THAT(refusal([](MappedTensor& tensor) { tensor.head_stride = -64; }), HasSubstr("is -128 bytes"));
  EXPECT_THAT(refusal([](MappedTensor& tensor) {
                tensor.batches = 2;
                tensor.batch_stride = 4;
              }),
              HasSubstr("its stride from batch row to batch row is 8 bytes"));
  EXPECT_THAT(refusal([](MappedTensor& tensor) { tensor.head_stride = int64_t{1} << 39; }),
              HasSubstr("is 1099511627776 bytes"));
}

TEST_F(TensorMapTest, TokensMustLieCloseEnoughForARaggedMap) {
  // The base lies 2^27 tokens before the tensor, and must not wrap.
  const std::string message = refusal([](MappedTensor& tensor) { tensor.token_stride = int64_t{1} << 30; });
  EXPECT_THAT(message, AllOf(IsOneLineWithARemedy(), HasSubstr("its stride from token to token is 2147483648 bytes"),
                             HasSubstr("the copy engine takes up to"), HasSubstr("copy it to a dense tensor")));
}

TEST_F(TensorMapTest, DimensionsHaveLimits) {
  EXPECT_EQ(refusal([](MappedTensor& tensor) { tensor.tokens = int64_t{1} << 32; }),
            "k has 4294967296 tokens, the copy engine takes less than 4294967296: split it");
  EXPECT_THAT(refusal([](MappedTensor& tensor) { tensor.batches = int64_t{1} << 33; }), HasSubstr("batch rows"));
}

TEST_F(TensorMapTest, WhatTheDriverRefusesIsADeviceError) {
  const Setting results("HARRIER_EMULATED_FAIL", "cuTensorMapEncodeTiled=801");
  EXPECT_THAT(test::failure_of([&] { encode(tensor()); }).message,
              HasSubstr("describing k to the copy engine: CUDA_ERROR_NOT_SUPPORTED"));
}

}  // namespace
}  // namespace harrier::cuda
