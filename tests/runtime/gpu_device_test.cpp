// Finding and opening GPUs: what is there, what is refused, in one line with a remedy.
#include "device_failure.h"
#include "emulated_device.h"
#include "support/setting.h"

namespace harrier::cuda {
namespace {

using test::Failure;
using test::failure_of;
using test::IsOneLineWithARemedy;
using test::open_emulated;
using testing::AllOf;
using testing::HasSubstr;

std::shared_ptr<const Driver> load() { return load_driver(HARRIER_EMULATED_GPU); }

TEST(GpuDriver, ThatIsTooOldIsRefusedByItsVersion) {
  const Setting version("HARRIER_EMULATED_DRIVER", "11080");
  const Failure failure = failure_of(load);
  EXPECT_EQ(failure.kind, DeviceFailure::kDriverTooOld);
  EXPECT_EQ(failure.message, "the driver is for CUDA 11.8, needed is 12.0: update it");
}

TEST(GpuDriver, OfTheOldestSupportedVersionIsTaken) {
  const Setting version("HARRIER_EMULATED_DRIVER", "12000");
  EXPECT_EQ(load()->version, kOldestDriver);
}

TEST(GpuDriver, WithoutAGpuSaysSo) {
  const Setting devices("HARRIER_EMULATED_DEVICES", "0");
  const Failure failure = failure_of(load);
  EXPECT_EQ(failure.kind, DeviceFailure::kNoDevice);
  EXPECT_THAT(failure.message, AllOf(IsOneLineWithARemedy(), HasSubstr("CUDA_ERROR_NO_DEVICE"),
                                     HasSubstr("check CUDA_VISIBLE_DEVICES, or use the cpu backend")));
}

TEST(GpuDriver, FailuresHaveTheirKindAndRemedy) {
  struct Case {
    const char* results;
    DeviceFailure kind;
    const char* part;
  };
  const Case cases[] = {
      {"cuInit=34", DeviceFailure::kNoDriver, "this is the toolkit's stub: install NVIDIA's driver"},
      {"cuInit=803", DeviceFailure::kOther, "restart the machine"},
      {"cuInit=999", DeviceFailure::kOther, "the CUDA driver does not start: error 999 (unknown): "},
      {"cuDriverGetVersion=1", DeviceFailure::kOther, "the driver's version: CUDA_ERROR_INVALID_VALUE"},
      {"cuDeviceGetCount=2", DeviceFailure::kOutOfMemory, "free device memory"},
  };
  for (const Case& failing : cases) {
    SCOPED_TRACE(failing.results);
    const Setting results("HARRIER_EMULATED_FAIL", failing.results);
    const Failure failure = failure_of(load);
    EXPECT_EQ(failure.kind, failing.kind);
    EXPECT_THAT(failure.message, AllOf(IsOneLineWithARemedy(), HasSubstr(failing.part)));
  }
  EXPECT_NO_THROW(load()) << "a failure does not last";
}

TEST(GpuDevices, AreFoundWithTheirFacts) {
  const Setting devices("HARRIER_EMULATED_DEVICES", "3"), capability("HARRIER_EMULATED_CAPABILITY", "8.9"),
      multiprocessors("HARRIER_EMULATED_SMS", "66");
  const std::vector<DeviceFacts> found = find_devices(*load());
  ASSERT_EQ(found.size(), 3U);
  for (int ordinal = 0; ordinal < 3; ++ordinal) {
    const DeviceFacts& facts = found[static_cast<size_t>(ordinal)];
    EXPECT_EQ(facts.ordinal, ordinal);
    EXPECT_EQ(facts.capability_major, 8);
    EXPECT_EQ(facts.capability_minor, 9);
    EXPECT_EQ(facts.multiprocessors, 66);
    EXPECT_EQ(facts.shared_bytes_per_block, 99 * 1024);
    EXPECT_EQ(facts.memory_bytes, int64_t{8} << 30);
    EXPECT_EQ(silicon_key(facts), silicon_key(found[0]));
    EXPECT_EQ(architecture_of(facts), "sm_89");
  }
  EXPECT_NE(found[0].pci_bus, found[1].pci_bus);
}

TEST(GpuDevices, OrdinalOutOfRangeIsRefused) {
  const Setting devices("HARRIER_EMULATED_DEVICES", "2");
  EXPECT_EQ(open_emulated(1)->facts().ordinal, 1);
  for (const int ordinal : {2, -1}) {
    const Failure failure = failure_of([&] { open_emulated(ordinal); });
    EXPECT_EQ(failure.kind, DeviceFailure::kNoDevice);
    EXPECT_EQ(failure.message, "there is no GPU " + std::to_string(ordinal) + ": this process sees 2, numbered from 0");
  }
}

TEST(GpuDevices, ContextThatDoesNotStartIsAnError) {
  const Setting results("HARRIER_EMULATED_FAIL", "cuDevicePrimaryCtxRetain=2");
  const Failure failure = failure_of([] { open_emulated(); });
  EXPECT_EQ(failure.kind, DeviceFailure::kOutOfMemory);
  EXPECT_THAT(failure.message, HasSubstr("the context of GPU 0"));
}

TEST(GpuContext, IsCurrentAsLongAsItIsUsedAndThenTheOneBefore) {
  const Setting devices("HARRIER_EMULATED_DEVICES", "2");
  const DeviceHandle first = open_emulated(0);
  const DeviceHandle second = open_emulated(1);
  const auto current = [&] {
    Context context = nullptr;
    first->driver().context_current(&context);
    return context;
  };
  const Context before = current();
  {
    const CurrentContext outer(*first);
    EXPECT_EQ(current(), first->context());
    {
      const CurrentContext inner(*second);
      EXPECT_EQ(current(), second->context());
      const CurrentContext again(*second);
      EXPECT_EQ(current(), second->context());
    }
    EXPECT_EQ(current(), first->context());
  }
  EXPECT_EQ(current(), before);
}

}  // namespace
}  // namespace harrier::cuda
