// The driver and NVRTC are found when the program runs; without them there is one line that says what to do.
#include "device_failure.h"
#include "runtime/cuda/driver.h"
#include "runtime/cuda/nvrtc.h"
#include "support/setting.h"

namespace harrier {
namespace {

using test::Failure;
using test::failure_of;
using test::IsOneLineWithARemedy;
using test::message_of;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

constexpr const char* kNoLibrary = "/no/such/folder/libnothing.so";
constexpr const char* kOtherLibrary = "libm.so.6";

TEST(Driver, MachineWithoutOneIsAnAnswer) {
  const Failure failure = failure_of([] { cuda::load_driver(kNoLibrary); });
  EXPECT_EQ(failure.kind, DeviceFailure::kNoDriver);
  EXPECT_THAT(failure.message, AllOf(IsOneLineWithARemedy(), HasSubstr(kNoLibrary),
                                     EndsWith("install NVIDIA's driver, or use the cpu "
                                              "backend")));
}

TEST(Driver, LibraryIsTheOneThatTheEnvironmentNames) {
  const Setting library("HARRIER_LIBCUDA", kNoLibrary);
  EXPECT_THAT(failure_of([] { cuda::load_driver(); }).message, HasSubstr(kNoLibrary));
  EXPECT_THAT(failure_of([] { cuda::load_driver(kOtherLibrary); }).message, HasSubstr(kOtherLibrary))
      << "an argument comes first";
}

TEST(Driver, EmptyVariableIsNone) {
  const Setting library("HARRIER_LIBCUDA", "");
  try {
    EXPECT_EQ(cuda::load_driver()->path, "libcuda.so.1");
  } catch (const DeviceError& error) {
    EXPECT_THAT(std::string(error.what()), AllOf(HasSubstr("libcuda.so.1"), IsOneLineWithARemedy()));
  }
}

TEST(Driver, LibraryWithoutItsFunctionsIsTooOld) {
  const Failure failure = failure_of([] { cuda::load_driver(kOtherLibrary); });
  EXPECT_EQ(failure.kind, DeviceFailure::kDriverTooOld);
  EXPECT_EQ(failure.message, "libm.so.6 has no cuInit: install a driver for CUDA 12.0 or newer");
}

TEST(Nvrtc, SaysWhereItLookedAndHowToGetOne) {
  for (const char* path : {kNoLibrary, kOtherLibrary}) {
    EXPECT_EQ(message_of<ToolchainError>([&] { cuda::load_nvrtc(path); }),
              std::string("no NVRTC: looked for ") + path +
                  ": `scripts/setup nvrtc` brings it, or set HARRIER_NVRTC to a libnvrtc.so");
  }
  const Setting library("HARRIER_NVRTC", kNoLibrary);
  EXPECT_THAT(message_of<ToolchainError>([] { cuda::load_nvrtc(); }), HasSubstr(kNoLibrary));
}

TEST(Nvrtc, EmptyVariableIsNone) {
  const Setting library("HARRIER_NVRTC", ""), home("CUDA_HOME", "/no/such/toolkit");
  try {
    EXPECT_THAT(cuda::load_nvrtc().path, HasSubstr("libnvrtc"));
  } catch (const ToolchainError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("libnvrtc.so.13"), HasSubstr("/no/such/toolkit/lib64/libnvrtc.so.13"),
                                    HasSubstr("/usr/local/cuda/lib64/libnvrtc.so")));
  }
}

}  // namespace
}  // namespace harrier
