// Tuning through the program's worker: candidates that crash or fault on the emulated GPU cost themselves alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "compiler/cuda/runners/isolated_runner.h"
#include "compiler/cuda/tune_cuda.h"
#include "compiler/cuda/tuning_store.h"
#include "ir/text.h"
#include "support/setting.h"
#include "support/temporary_folder.h"
#include "test_gpu.h"

namespace harrier {
namespace {

using testing::HasSubstr;

class TuneIsolation : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::is_emulated()) GTEST_SKIP() << "a real GPU does not fault when it is asked to";
    cache_ = std::make_unique<Setting>("HARRIER_CACHE_DIR", (folder_ / "cache").c_str());
    store_ = open_store();
    std::ofstream(folder_ / "small.attn") << print(workload_);
  }
  void TearDown() override { store_.reset(); }

  /// A few plans; the clock only moves when it is looked at, so all of them are tried.
  Tuning tune() {
    const cuda::DeviceFacts& facts = test::gpu().device->facts();
    TuneOptions options;
    options.most_codes = 3;
    options.compile.store = store_;
    options.now = [seconds = 0.0]() mutable { return seconds += 1e-4; };
    options.failed = [this](const autotune::Choice& choice, const std::string& reason) {
      failed_.emplace_back(choice, reason);
    };
    const CandidateRunner runner = isolated_runner(
        {HARRIER_EXECUTABLE, "tune-worker", folder_ / "small.attn"}, workload_,
        {.target = target_on(facts), .silicon_key = cuda::silicon_key(facts), .nvrtc = test::gpu().nvrtc},
        options.compile);
    const std::vector<LengthDraw> draws = {{.geometry = packed_geometry({64}, {64}), .bindings = {}}};
    return tune_cuda(runner, workload_, draws, facts, options);
  }

  /// A candidate that was measured and is told from the default by its shared memory.
  const TunedCandidate* another(const Tuning& tuning) const {
    for (const TunedCandidate& candidate : tuning.candidates) {
      const bool is_told = bytes_of(candidate.choice) != bytes_of(tuning.candidates.front().choice);
      if (is_told && !candidate.trial.us.front().empty()) return &candidate;
    }
    return nullptr;
  }
  int64_t bytes_of(const autotune::Choice& choice) const { return shared_bytes(choice.plan, workload_.shape); }

  Setting libcuda_{"HARRIER_LIBCUDA", HARRIER_EMULATED_GPU};
  Setting nvrtc_{"HARRIER_NVRTC", HARRIER_EMULATED_GPU};
  const test::TemporaryFolder folder_;
  std::unique_ptr<Setting> cache_;
  StoreHandle store_;
  Workload workload_ = [] {
    Workload workload = test::workload_of(causal(), test::shape_of(2, 2, 64));
    workload.name = "small";
    workload.lengths = FixedLength{64};
    return workload;
  }();
  std::vector<std::pair<autotune::Choice, std::string>> failed_;
};

TEST_F(TuneIsolation, GoesOnAfterCandidatesThatTakeTheirProcessAlong) {
  const Tuning well = tune();
  EXPECT_LT(well.reference_error, 0.01);
  EXPECT_TRUE(failed_.empty());
  const TunedCandidate* first = another(well);
  ASSERT_NE(first, nullptr);
  const int64_t crashing = bytes_of(first->choice);
  {
    const Setting crash("HARRIER_EMULATED_FAULT", (std::to_string(crashing) + "=crash").c_str());
    const Tuning tuning = tune();
    EXPECT_FALSE(tuning.device_lost);
    EXPECT_GT(tuning.tuned_us, 0);
    ASSERT_FALSE(failed_.empty());
    for (const auto& [choice, reason] : failed_) {
      EXPECT_EQ(bytes_of(choice), crashing);
      EXPECT_THAT(reason, HasSubstr("the process that ran it died of signal 6"));
    }
  }
  failed_.clear();
  // The first launch is the check, the second that of its first round, which every candidate that is right comes to.
  const Setting fault("HARRIER_EMULATED_FAULT", (std::to_string(crashing) + "=719@2").c_str());
  const Tuning tuning = tune();
  EXPECT_FALSE(tuning.device_lost);
  EXPECT_GT(tuning.tuned_us, 0);
  ASSERT_FALSE(failed_.empty());
  EXPECT_THAT(failed_.front().second, HasSubstr("CUDA_ERROR_LAUNCH_FAILED"));
}

TEST_F(TuneIsolation, TunesGradientsAndGoesOnAfterOneThatCrashes) {
  workload_.shape.direction = Direction::kBackward;
  std::ofstream(folder_ / "small.attn") << print(workload_);
  const Tuning well = tune();
  EXPECT_LT(well.reference_error, 0.01);
  EXPECT_TRUE(failed_.empty());
  const TunedCandidate* other = another(well);
  ASSERT_NE(other, nullptr);
  const Setting crash("HARRIER_EMULATED_FAULT", (std::to_string(bytes_of(other->choice)) + "=crash").c_str());
  const Tuning tuning = tune();
  EXPECT_FALSE(tuning.device_lost);
  EXPECT_GT(tuning.tuned_us, 0);
  ASSERT_FALSE(failed_.empty());
  for (const auto& [choice, reason] : failed_) EXPECT_EQ(bytes_of(choice), bytes_of(other->choice));
}

TEST_F(TuneIsolation, WhereTheDefaultCrashesThereIsOneError) {
  const int64_t bytes = bytes_of({.plan = compile_cuda(workload_, test::gpu()).compilation().plan});
  const Setting crash("HARRIER_EMULATED_FAULT", (std::to_string(bytes) + "=crash").c_str());
  try {
    tune();
    FAIL() << "there is no default";
  } catch (const ToolchainError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("the default plan "), HasSubstr("died of signal 6")));
  }
}

}  // namespace
}  // namespace harrier
