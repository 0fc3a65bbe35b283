// Programs that answer, die and hang.
#include "compiler/cuda/runners/worker_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "ir/error.h"

namespace harrier {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr milliseconds kLongWait(20000);

std::vector<std::string> shell(const std::string& script) { return {"/bin/sh", "-c", script}; }

TEST(WorkerProcess, AnswersLinesWithLines) {
  WorkerProcess worker(shell("echo ready; while read -r line; do echo \"got $line\"; done"));
  EXPECT_EQ(worker.listen(kLongWait), "ready");
  EXPECT_EQ(worker.ask("one", kLongWait), "got one");
  EXPECT_EQ(worker.ask("{\"two\": 2}", kLongWait), "got {\"two\": 2}");
  const std::string large(100'000, 'x');
  EXPECT_EQ(worker.ask(large, kLongWait), "got " + large);
}

TEST(WorkerProcess, TellsHowItEnded) {
  const auto how = [](const std::string& script) {
    WorkerProcess worker(shell(script));
    EXPECT_EQ(worker.ask("question", kLongWait), std::nullopt);
    EXPECT_FALSE(worker.fate().timed_out);
    EXPECT_EQ(worker.ask("another", kLongWait), std::nullopt) << "nobody is there";
    return worker.fate().how;
  };
  EXPECT_EQ(how("read -r line; kill -SEGV $$"), "died of signal 11 (Segmentation fault)");
  EXPECT_EQ(how("exit 3"), "ended with code 3");
  EXPECT_EQ(how("read -r line; printf 'half a line'"), "ended with code 0");
}

TEST(WorkerProcess, OneThatHangsIsKilled) {
  WorkerProcess worker(shell("echo $$; while read -r line; do sleep 1000; done"));
  const std::optional<std::string> process = worker.listen(kLongWait);
  ASSERT_TRUE(process);
  EXPECT_EQ(worker.ask("question", milliseconds(50)), std::nullopt);
  EXPECT_TRUE(worker.fate().timed_out);
  EXPECT_FALSE(worker.fate().is_stuck);
  EXPECT_EQ(worker.fate().how, "did not answer for 0.05 s");
  EXPECT_NE(::kill(std::stoi(*process), 0), 0) << "it is gone";
}

TEST(WorkerProcess, OneThatClosesItsEndAndLivesOnIsKilled) {
  WorkerProcess worker(shell("echo $$; exec 0<&- 1>&-; sleep 1000"));
  const std::optional<std::string> process = worker.listen(kLongWait);
  ASSERT_TRUE(process);
  EXPECT_EQ(worker.listen(kLongWait), std::nullopt);
  EXPECT_NE(::kill(std::stoi(*process), 0), 0);
}

TEST(WorkerProcess, AMissingProgramIsAnError) {
  try {
    const WorkerProcess worker({"/no/such/program"});
    FAIL() << "it started";
  } catch (const ToolchainError& error) {
    EXPECT_THAT(error.what(), HasSubstr("/no/such/program does not start: No such file or directory"));
  }
}

}  // namespace
}  // namespace harrier
