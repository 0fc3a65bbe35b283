// What is known of a GPU without asking it again: the key of tunings, and what kernels are compiled for.
#include "device_failure.h"
#include "runtime/cuda/device.h"

namespace harrier::cuda {
namespace {

DeviceFacts h100() {
  return {.ordinal = 0,
          .name = "NVIDIA H100 80GB HBM3",
          .pci_bus = "0000:19:00.0",
          .capability_major = 9,
          .capability_minor = 0,
          .multiprocessors = 132,
          .l2_bytes = 52428800,
          .shared_bytes_per_multiprocessor = 233472,
          .shared_bytes_per_block = 232448,
          .registers_per_multiprocessor = 65536,
          .memory_bus_bits = 5120,
          .memory_clock_khz = 2619000,
          .memory_bytes = int64_t{80} << 30};
}

TEST(SiliconKey, NamesWhatDecidesSpeed) {
  EXPECT_EQ(silicon_key(h100()), "sm90-132sm-l2:52428800-smem:233472-block:232448-regs:65536-bus:5120-memclock:26");
}

TEST(SiliconKey, IsEqualWhateverTheProductIsCalledAndHolds) {
  DeviceFacts other = h100();
  other.ordinal = 3;
  other.name = "NVIDIA H100 96GB";
  other.pci_bus = "0000:84:00.0";
  other.memory_bytes = int64_t{96} << 30;
  other.memory_clock_khz = 2601000;
  EXPECT_EQ(silicon_key(other), silicon_key(h100()));
}

TEST(SiliconKey, TellsOtherSiliconApart) {
  const auto key_with = [](auto change) {
    DeviceFacts facts = h100();
    change(facts);
    return silicon_key(facts);
  };
  const std::string key = silicon_key(h100());
  EXPECT_NE(key_with([](DeviceFacts& facts) { facts.capability_minor = 3; }), key);
  EXPECT_NE(key_with([](DeviceFacts& facts) { facts.multiprocessors = 114; }), key);
  EXPECT_NE(key_with([](DeviceFacts& facts) { facts.l2_bytes /= 2; }), key);
  EXPECT_NE(key_with([](DeviceFacts& facts) { facts.shared_bytes_per_multiprocessor = 102400; }), key);
  EXPECT_NE(key_with([](DeviceFacts& facts) { facts.shared_bytes_per_block = 101376; }), key);
  EXPECT_NE(key_with([](DeviceFacts& facts) { facts.memory_bus_bits = 4096; }), key);
  EXPECT_NE(key_with([](DeviceFacts& facts) { facts.memory_clock_khz = 1593000; }), key) << "HBM2e";
}

TEST(Architecture, IsTheMostSpecificThatKernelsAreFor) {
  const auto architecture = [](int major, int minor) {
    DeviceFacts facts = h100();
    facts.capability_major = major;
    facts.capability_minor = minor;
    return architecture_of(facts);
  };
  EXPECT_EQ(architecture(9, 0), "sm_90a");
  EXPECT_EQ(architecture(8, 0), "sm_80");
  EXPECT_EQ(architecture(8, 6), "sm_86");
  EXPECT_EQ(architecture(8, 9), "sm_89");
  EXPECT_EQ(architecture(10, 0), "sm_100");
  EXPECT_EQ(architecture(12, 0), "sm_120");
  const test::Failure failure = test::failure_of([&] { architecture(7, 5); });
  EXPECT_EQ(failure.kind, DeviceFailure::kUnsupported);
  EXPECT_EQ(failure.message,
            "NVIDIA H100 80GB HBM3 has compute capability 7.5, the oldest supported is 8.0: use the cpu backend");
}

}  // namespace
}  // namespace harrier::cuda
