// The program itself: streams, exit codes, signals.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "cli_fixture.h"
#include "support/setting.h"

namespace harrier {
namespace {

class ExecutableTest : public CliTest {
 protected:
  /// Starts the program with stdout and stderr in files.
  pid_t start(const std::vector<std::string>& arguments) {
    std::vector<std::string> words{HARRIER_EXECUTABLE};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    const std::string out = path("stdout");
    const std::string error = path("stderr");
    const pid_t child = ::fork();
    if (child == 0) {
      constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
      const int out_file = ::open(out.c_str(), kFlags, 0600);
      const int error_file = ::open(error.c_str(), kFlags, 0600);
      if (out_file < 0 || error_file < 0) ::_exit(126);
      ::dup2(out_file, STDOUT_FILENO);
      ::dup2(error_file, STDERR_FILENO);
      ::execv(pointers[0], pointers.data());
      ::_exit(127);
    }
    return child;
  }

  CommandResult run(const std::vector<std::string>& arguments) {
    int status = 0;
    ::waitpid(start(arguments), &status, 0);
    return {
        .code = WIFEXITED(status) ? WEXITSTATUS(status) : -1, .out = read_text("stdout"), .error = read_text("stderr")};
  }
};

TEST_F(ExecutableTest, AnswersWithCodesAndOnTheRightStream) {
  EXPECT_EQ(run({"--version"}).out, "harrier 0.1.0\n");
  const CommandResult unknown = run({"chekc"});
  EXPECT_EQ(unknown.code, kBadInput);
  EXPECT_EQ(unknown.out, "");
  EXPECT_EQ(unknown.error, "harrier: unknown command chekc: did you mean check?\n");
  const std::string file = write_text("a.attn", "attention a { heads 1 head_dim 16 mask causal lengths fixed(128) }");
  const CommandResult shown = run({"show", file});
  EXPECT_EQ(shown.code, kSuccess) << shown.error;
  EXPECT_NE(shown.out.find("▒▒··"), std::string::npos);
  EXPECT_EQ(shown.out.find('\x1b'), std::string::npos) << "colour is for terminals";
  const Setting libcuda("HARRIER_LIBCUDA", "/no/such/folder/libcuda.so");
  EXPECT_EQ(run({"run", file, "--backend", "cuda"}).code, kToolchainFailed);
}

TEST_F(ExecutableTest, AnInterruptLeavesNoHalfWrittenFile) {
  const std::string file = write_text("long.attn", "attention a { heads 8 head_dim 64 mask all lengths fixed(2048) }");
  const pid_t child = start({"run", file, "--repeat", "100000", "--out", path("o.npy")});
  ::usleep(1'500'000);
  ASSERT_EQ(::kill(child, SIGINT), 0);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kToolchainFailed) GTEST_SKIP() << "no backend in this build";
  ASSERT_TRUE(WIFSIGNALED(status)) << "it was still running";
  EXPECT_EQ(files(), (std::vector<std::string>{"long.attn", "stderr", "stdout"}));
}

}  // namespace
}  // namespace harrier
