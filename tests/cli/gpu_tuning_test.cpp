// tune, explain and report on the emulated GPU, whose times are those of a CPU: nothing is said of which plan wins.
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <memory>
#include <thread>

#include "autotune/candidate_text.h"
#include "cli/interrupt.h"
#include "cli/progress_line.h"
#include "cli/report_html.h"
#include "cli/tuning_commands.h"
#include "cli_fixture.h"
#include "ir/error.h"
#include "support/setting.h"

namespace harrier {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class GpuTuningTest : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    workload_ =
        write_text("small.attn", "attention small { heads 2 head_dim 64 dtype bf16 mask causal lengths fixed(64) }");
    cache_ = std::make_unique<Setting>("HARRIER_CACHE_DIR", path("cache").c_str());
  }

  Setting libcuda_{"HARRIER_LIBCUDA", HARRIER_EMULATED_GPU};
  Setting nvrtc_{"HARRIER_NVRTC", HARRIER_EMULATED_GPU};
  std::unique_ptr<Setting> cache_;
  std::string workload_;
};

TEST_F(GpuTuningTest, TuneIsRememberedExplainedAndReported) {
  const CommandResult before = run_harrier({"explain", workload_});
  EXPECT_EQ(before.code, kSuccess) << before.error;
  EXPECT_THAT(before.out, AllOf(HasSubstr("small on Emulated GPU sm_90: default\n"),
                                HasSubstr("\n    exact              not tuned on this GPU for these lengths\n"),
                                HasSubstr("\n  > default ")));

  const CommandResult tuned = run_harrier({"tune", workload_, "--budget", "1s", "--json"}, HARRIER_EXECUTABLE);
  ASSERT_EQ(tuned.code, kSuccess) << tuned.error;
  const Json result = Json::parse(tuned.out).at("workloads").at(0);
  EXPECT_EQ(result.at("workload"), "small");
  EXPECT_EQ(result.at("architecture"), "sm_90a");
  EXPECT_GT(result.at("default_us"), 0);
  EXPECT_GT(result.at("tuned_us"), 0);
  EXPECT_LT(result.at("reference_error"), 0.01);
  EXPECT_EQ(result.at("saved"), true);
  EXPECT_FALSE(result.at("candidates").empty());

  const CommandResult after = run_harrier({"explain", workload_, "--json"});
  const Json answer = Json::parse(after.out);
  EXPECT_EQ(answer.at("answer"), "exact");
  EXPECT_EQ(answer.at("plan"), result.at("plan"));
  EXPECT_EQ(answer.at("rungs").size(), 7);
  EXPECT_GT(answer.at("calibration").at("measurements"), 0);
  const std::string longer =
      write_text("longer.attn", "attention longer { heads 2 head_dim 64 dtype bf16 mask causal lengths fixed(150) }");
  EXPECT_EQ(Json::parse(run_harrier({"explain", longer, "--json"}).out).at("answer"), "nearest-lengths");

  const CommandResult report = run_harrier({"report", "-o", path("report.html")});
  EXPECT_EQ(report.code, kSuccess) << report.error;
  EXPECT_EQ(without_folder(report.out), "report.html: 1 tuning\n");
  const std::string html = read_text("report.html");
  EXPECT_THAT(
      html, AllOf(HasSubstr("<svg"), HasSubstr("mask window(inf, 0)"), HasSubstr("of the roof"), HasSubstr("</html>")));
  EXPECT_THAT(html, AllOf(Not(HasSubstr("http")), Not(HasSubstr("src=")), Not(HasSubstr("@import"))));
}

TEST_F(GpuTuningTest, GradientsAreTunedRememberedExplainedAndReported) {
  const std::string gradients = write_text(
      "gradients.attn",
      "attention gradients { heads 2 head_dim 64 dtype bf16 direction backward mask causal lengths fixed(64) }");
  EXPECT_THAT(run_harrier({"explain", gradients}).out,
              AllOf(HasSubstr("gradients on Emulated GPU sm_90: default\n"), HasSubstr("\nplan      rows of ")));
  const CommandResult tuned = run_harrier({"tune", gradients, "--budget", "1s", "--json"}, HARRIER_EXECUTABLE);
  ASSERT_EQ(tuned.code, kSuccess) << tuned.error;
  const Json result = Json::parse(tuned.out).at("workloads").at(0);
  EXPECT_LT(result.at("reference_error"), 0.01);
  EXPECT_EQ(result.at("saved"), true);
  EXPECT_THAT(result.at("plan"), testing::StartsWith("rows of "));
  const Json answer = Json::parse(run_harrier({"explain", gradients, "--json"}).out);
  EXPECT_EQ(answer.at("answer"), "exact");
  EXPECT_EQ(answer.at("plan"), result.at("plan"));
  EXPECT_EQ(Json::parse(run_harrier({"explain", workload_, "--json"}).out).at("answer"), "default")
      << "the forward kernel has tunings of its own";
  ASSERT_EQ(run_harrier({"report", "-o", path("report.html")}).code, kSuccess);
  EXPECT_THAT(read_text("report.html"),
              AllOf(HasSubstr("direction backward"), HasSubstr("rows of 64 queries, columns of")));
}

TEST_F(GpuTuningTest, TableHasALineForEachWorkloadAndLengthsMayComeFromATrace) {
  const std::string trace = write_text("trace.csv", "length\n30\n40\n");
  const std::string peers = write_text("peers.json", R"([{"workload": "small", "system": "fast", "ms": 0.0125},
                                   {"workload": "small", "system": "faster elsewhere", "ms": 0.001, "device": "X1"}])");
  const CommandResult result =
      run_harrier({"tune", workload_, "--budget", "300ms", "--lengths", trace, "--peers", peers});
  ASSERT_EQ(result.code, kSuccess) << result.error;
  EXPECT_THAT(result.out, AllOf(HasSubstr("workload "), HasSubstr("best peer us"), HasSubstr("\nsmall ")));
  EXPECT_THAT(result.out, HasSubstr(" 12.5 fast "));
  EXPECT_THAT(result.error, HasSubstr("time was over before all was tried"));
  EXPECT_EQ(run_harrier({"tune", workload_, "--lengths", path("none.csv")}).code, kBadInput);
}

TEST_F(GpuTuningTest, APinAnswersUntilItIsReleased) {
  const CommandResult tuned = run_harrier({"tune", workload_, "--budget", "300ms", "--json"});
  ASSERT_EQ(tuned.code, kSuccess) << tuned.error;
  const std::string plans = write_text("tuned.json", tuned.out);
  const auto answer = [&] { return Json::parse(run_harrier({"explain", workload_, "--json"}).out); };
  ASSERT_EQ(answer().at("answer"), "exact");

  const CommandResult pinned = run_harrier({"tune", workload_, "--pin", plans});
  ASSERT_EQ(pinned.code, kSuccess) << pinned.error;
  EXPECT_THAT(pinned.out, testing::StartsWith("small on Emulated GPU sm_90: pinned: "));
  EXPECT_EQ(answer().at("answer"), "pinned");
  EXPECT_THAT(run_harrier({"cache", "ls"}).out, HasSubstr(" (pinned)\n"));
  EXPECT_EQ(Json::parse(run_harrier({"cache", "ls", "--json"}).out).at("decisions").at(0).at("pinned"), true);
  const CommandResult again = run_harrier({"tune", workload_, "--budget", "300ms"});
  EXPECT_THAT(again.error, HasSubstr("could not be kept: is it pinned"));
  EXPECT_EQ(answer().at("answer"), "pinned");

  EXPECT_THAT(run_harrier({"tune", workload_, "--unpin"}).out, HasSubstr(": no longer pinned\n"));
  EXPECT_EQ(answer().at("answer"), "default");
  EXPECT_THAT(run_harrier({"tune", workload_, "--unpin"}).out, HasSubstr(": nothing was pinned\n"));
}

TEST_F(GpuTuningTest, PinsThatDoNotFitAreRefused) {
  const auto error_of = [&](const std::string& text) {
    const CommandResult result = run_harrier({"tune", workload_, "--pin", write_text("plan.json", text)});
    EXPECT_EQ(result.code, kBadInput);
    EXPECT_EQ(std::ranges::count(result.error, '\n'), 1) << result.error;
    return result.error;
  };
  EXPECT_THAT(error_of("nothing"), HasSubstr("not a JSON object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("has no plan for small"));
  EXPECT_THAT(error_of(R"({"choice": "tile_k=7"})"), HasSubstr("is no plan with a schedule"));
  const autotune::Choice portable{.plan = {.family = CudaFamily::kSm80}};
  EXPECT_THAT(error_of(Json{{"choice", autotune::to_text(portable)}}.dump()), HasSubstr("is not for sm_90a"));
  const autotune::Choice uneven{.plan = {.tile_k = 72}};
  EXPECT_THAT(error_of(Json{{"choice", autotune::to_text(uneven)}}.dump()), HasSubstr("72"));
  EXPECT_EQ(run_harrier({"tune", workload_, "--unpin", "--pin", "plan.json"}).code, kBadInput);
}

TEST_F(GpuTuningTest, BadOptionsAreRefusedBeforeAnythingRuns) {
  const auto error_of = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"tune", workload_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = run_harrier(arguments);
    EXPECT_EQ(result.code, kBadInput);
    return result.error;
  };
  EXPECT_EQ(error_of({"--effort", "much"}), "harrier: --effort much: not an effort: use quick or full\n");
  EXPECT_THAT(error_of({"--peers", path("none.json")}), HasSubstr("none.json: cannot be read: name a JSON file"));
  EXPECT_EQ(error_of({"--budget", "soon"}), "harrier: --budget soon: not a time up to a day: write 30s, 2m or 500ms\n");
  EXPECT_FALSE(std::filesystem::exists(path("cache")));
}

TEST_F(GpuTuningTest, WithoutAGpuThereIsOneLine) {
  const Setting libcuda("HARRIER_LIBCUDA", "/no/such/libcuda.so");
  for (const char* command : {"tune", "explain"}) {
    const CommandResult result = run_harrier({command, workload_});
    EXPECT_EQ(result.code, kToolchainFailed) << command;
    EXPECT_EQ(std::ranges::count(result.error, '\n'), 1) << result.error;
  }
}

TEST_F(GpuTuningTest, ReportOfNothingSaysSo) {
  EXPECT_EQ(run_harrier({"report", "-o", path("report.html")}).code, kSuccess);
  EXPECT_THAT(read_text("report.html"), HasSubstr("Nothing was tuned yet"));
}

TEST(SecondsOf, TakesUnits) {
  EXPECT_DOUBLE_EQ(seconds_of("30s"), 30);
  EXPECT_DOUBLE_EQ(seconds_of("2m"), 120);
  EXPECT_DOUBLE_EQ(seconds_of("500ms"), 0.5);
  EXPECT_DOUBLE_EQ(seconds_of("1.5"), 1.5);
  for (const char* bad : {"", "s", "-1s", "0", "3h", "1s ", "nan", "1e9"}) {
    EXPECT_THROW(seconds_of(bad), InvalidInput) << bad;
  }
}

TEST(InterruptWatch, AsksToStopOnTheFirstCtrlC) {
  const InterruptWatch watch;
  EXPECT_FALSE(watch.token().stop_requested());
  std::raise(SIGINT);
  for (int i = 0; i < 500 && !watch.token().stop_requested(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(watch.token().stop_requested());
}

TEST(ProgressBar, FillsAndFits) {
  EXPECT_EQ(progress_bar(0.5, "3 s left", 80), "[##########..........]  50 %, 3 s left");
  EXPECT_EQ(progress_bar(7, "", 80), "[####################] 100 %");
  EXPECT_EQ(progress_bar(0, "words", 10).size(), 10);
}

TEST(ReportHtml, EscapesWhatPatternsSay) {
  EXPECT_EQ(escape_html("a<b> & \"c\""), "a&lt;b&gt; &amp; &quot;c&quot;");
  ReportedTuning tuning{.pattern = "where(q < k && k > 3)"};
  tuning.trials.push_back({.plan = "<script>", .p20_us = 1, .p50_us = 2, .p80_us = 3, .is_default = true});
  const std::string html = report_html({tuning});
  EXPECT_THAT(html, AllOf(HasSubstr("q &lt; k &amp;&amp; k &gt; 3"), Not(HasSubstr("<script"))));
}

}  // namespace
}  // namespace harrier
