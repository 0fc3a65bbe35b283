// Rows of tuning come back as they were put; what is empty keeps what was known.
#include "store/tuning_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "watched_store.h"

namespace harrier {
namespace {

TuningContext context_of(const std::string& silicon, const std::string& bucket) {
  return {.device = {.silicon_key = silicon, .name = "GPU", .capability = 90, .multiprocessors = 132},
          .environment = {.key = "environment", .description = "NVRTC 13.0"},
          .workload = {.pattern_key = "pattern", .bucket_key = bucket, .pattern = "mask causal", .features = "{}"}};
}

DecisionRow decision_of(const std::string& config) {
  return {.config = config,
          .artifact = "ab",
          .default_us = 20,
          .tuned_us = 18,
          .margin = 0.07,
          .space_hash = "s",
          .effort = "quick",
          .details = "{}",
          .driver = "13.0",
          .verified = true,
          .pinned = false,
          .generation = 1,
          .decided_at = 5};
}

TEST(TuningRows, ComeBackAsTheyWerePut) {
  const test::TemporaryFolder folder;
  const TuningContext context = context_of("sm90-132sm", "1k");
  const MeasurementRow timed{.config = R"({"plan":1})",
                             .session = "one",
                             .artifact = "ab",
                             .status = TrialStatus::kTimed,
                             .note = "",
                             .rounds = 5,
                             .p20_us = 1,
                             .p50_us = 2,
                             .p80_us = 3,
                             .predicted_us = 2.5,
                             .log_ratio = -0.1,
                             .log_ratio_low = -0.2,
                             .log_ratio_high = 0,
                             .details = "[]",
                             .driver = "13.0",
                             .measured_at = 7};
  const MeasurementRow wrong{
      .config = R"({"plan":2})", .session = "one", .status = TrialStatus::kWrong, .note = "differs"};
  {
    const test::WatchedStore watched(folder.path());
    EXPECT_TRUE(put_measurements(*watched.store, context, std::vector{timed, wrong}));
    EXPECT_TRUE(put_decision(*watched.store, context, decision_of(timed.config)));
  }
  const test::WatchedStore watched(folder.path());
  const std::vector<FoundMeasurement> trials = find_measurements(*watched.store, {.silicon_key = "sm90-132sm"});
  ASSERT_EQ(trials.size(), 2);
  EXPECT_EQ(trials[0].context, context);
  EXPECT_EQ(trials[0].measurement, timed);
  EXPECT_EQ(trials[1].measurement, wrong);
  const std::vector<FoundDecision> decisions = find_decisions(*watched.store, {.pattern_key = "pattern"});
  ASSERT_EQ(decisions.size(), 1);
  EXPECT_EQ(decisions[0].context, context);
  EXPECT_EQ(decisions[0].decision, decision_of(timed.config));
  EXPECT_TRUE(find_measurements(*watched.store, {.silicon_key = "sm80"}).empty());
  EXPECT_THAT(watched.warnings, testing::IsEmpty());
}

TEST(TuningRows, AreFoundByAnyPartOfTheirContext) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  for (const char* silicon : {"a", "b"}) {
    for (const char* bucket : {"1k", "2k"}) put_decision(*watched.store, context_of(silicon, bucket), decision_of("c"));
  }
  EXPECT_EQ(find_decisions(*watched.store, {}).size(), 4);
  EXPECT_EQ(find_decisions(*watched.store, {.silicon_key = "a"}).size(), 2);
  EXPECT_EQ(find_decisions(*watched.store, {.silicon_key = "a", .bucket_key = "2k"}).size(), 1);
  EXPECT_EQ(find_decisions(*watched.store, {.environment_key = "other"}).size(), 0);
}

TEST(TuningRows, EmptyFieldsKeepWhatIsKnownOfADevice) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  put_device(*watched.store, {.silicon_key = "a", .name = "GPU", .capability = 90, .l2_bytes = 50});
  put_device(*watched.store, {.silicon_key = "a", .calibration = "{1}", .calibrated_at = 3});
  const DeviceRow expected{
      .silicon_key = "a", .name = "GPU", .capability = 90, .l2_bytes = 50, .calibration = "{1}", .calibrated_at = 3};
  EXPECT_EQ(find_device(*watched.store, "a"), expected);
  EXPECT_EQ(find_device(*watched.store, "b"), std::nullopt);
}

TEST(TuningRows, ADecisionReplacesTheOneBeforeUnlessThatIsPinned) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  const TuningContext context = context_of("a", "1k");
  const auto found = [&] { return find_decisions(*watched.store, {}).front().decision; };
  EXPECT_TRUE(put_decision(*watched.store, context, decision_of("first")));
  DecisionRow pinned = decision_of("second");
  pinned.pinned = true;
  EXPECT_TRUE(put_decision(*watched.store, context, pinned));
  EXPECT_EQ(found().generation, 2);
  EXPECT_FALSE(put_decision(*watched.store, context, decision_of("third")));
  EXPECT_EQ(found().config, "second");
  pinned.config = "fourth";
  EXPECT_TRUE(put_decision(*watched.store, context, pinned));
  EXPECT_EQ(found().config, "fourth");
  EXPECT_EQ(found().generation, 3);
}

TEST(TuningRows, PinsAreReleasedWhereTheyMatchAndNothingElseIs) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  DecisionRow pinned = decision_of("pinned");
  pinned.pinned = true;
  for (const char* device : {"a", "b"}) {
    EXPECT_TRUE(put_decision(*watched.store, context_of(device, "1k"), pinned));
    EXPECT_TRUE(put_decision(*watched.store, context_of(device, "2k"), decision_of("tuned")));
  }
  EXPECT_EQ(release_pins(*watched.store, {.silicon_key = "a", .bucket_key = "2k"}), 0);
  EXPECT_EQ(release_pins(*watched.store, {.silicon_key = "a", .bucket_key = "1k"}), 1);
  EXPECT_EQ(release_pins(*watched.store, {.silicon_key = "a", .bucket_key = "1k"}), 0);
  EXPECT_EQ(find_decisions(*watched.store, {}).size(), 3);
  EXPECT_EQ(release_pins(*watched.store, {}), 1);
  EXPECT_EQ(find_decisions(*watched.store, {}).size(), 2);
}

TEST(TuningRows, ATrialOfTheSameSessionReplacesItself) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  for (const double time : {3.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_TRUE(put_measurements(*watched.store, context_of("a", "1k"),
                                 std::vector{MeasurementRow{.config = "c", .session = "s", .p50_us = time}}));
  }
  const std::vector<FoundMeasurement> found = find_measurements(*watched.store, {});
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].measurement.p50_us, 0) << "what is no number becomes 0";
}

TEST(TuningRows, QuarantineCountsAndEnds) {
  const test::TemporaryFolder folder;
  const test::WatchedStore watched(folder.path());
  Store& store = *watched.store;
  quarantine(store, {.subject = "artifact:ab", .silicon_key = "a", .reason = "hung", .expires_at = 100});
  quarantine(store, {.subject = "artifact:ab", .silicon_key = "a", .reason = "crashed", .expires_at = 100});
  const std::optional<QuarantineRow> found = find_quarantine(store, "artifact:ab", "a", 99);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->hits, 2);
  EXPECT_EQ(found->reason, "crashed");
  EXPECT_FALSE(find_quarantine(store, "artifact:ab", "a", 100)) << "its time is over";
  EXPECT_FALSE(find_quarantine(store, "artifact:ab", "b", 0)) << "another kind of GPU";
  quarantine(store, {.subject = "x", .silicon_key = "a", .reason = "for ever"});
  EXPECT_TRUE(find_quarantine(store, "x", "a", int64_t{1} << 40));
  EXPECT_TRUE(release_quarantine(store, "x", "a"));
  EXPECT_FALSE(find_quarantine(store, "x", "a", 0));
}

}  // namespace
}  // namespace harrier
