// `harrier cache`, and runs that use what it holds.
#include <gmock/gmock.h>

#include <fstream>
#include <optional>

#include "cli_fixture.h"
#include "support/setting.h"

namespace harrier {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

class CacheCommandTest : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    cache_.emplace("HARRIER_CACHE_DIR", path("cache").c_str());
    file_ = write_text("w.attn", "attention w { heads 1 head_dim 32 dtype bf16 mask window(20, 0) lengths fixed(64) }");
  }

  CommandResult run_on_gpu(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"run", file_, "--backend", "cuda"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_harrier(arguments);
  }

  static Json json_of(std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    const CommandResult result = run_harrier(arguments);
    EXPECT_EQ(result.code, kSuccess) << result.error;
    return Json::parse(result.out);
  }

  Setting libcuda_{"HARRIER_LIBCUDA", HARRIER_EMULATED_GPU};
  Setting nvrtc_{"HARRIER_NVRTC", HARRIER_EMULATED_GPU};
  std::optional<Setting> cache_;
  std::string file_;
};

TEST_F(CacheCommandTest, ARunFillsTheCacheAndTheNextNeedsNoNvrtc) {
  EXPECT_EQ(run_on_gpu({"--no-cache"}).code, kSuccess);
  EXPECT_FALSE(std::filesystem::exists(path("cache"))) << "--no-cache leaves it alone";
  ASSERT_EQ(run_on_gpu().code, kSuccess);
  const Json listed = json_of({"cache", "ls"});
  ASSERT_EQ(listed["artifacts"].size(), 1U);
  EXPECT_THAT(listed["artifacts"][0]["label"].get<std::string>(), testing::StartsWith("w: "));
  EXPECT_EQ(listed["artifacts"][0]["architecture"], "sm_90a");
  const Setting frozen("HARRIER_FROZEN", "1");
  EXPECT_EQ(run_on_gpu().code, kSuccess);
  const Setting without("HARRIER_NVRTC", "/no/such/libnvrtc.so");
  EXPECT_EQ(run_on_gpu().code, kSuccess) << "any toolchain's will do where there is none";
}

TEST_F(CacheCommandTest, FrozenAMissNamesKeyAndCommand) {
  const Setting frozen("HARRIER_FROZEN", "1");
  const CommandResult result = run_on_gpu();
  EXPECT_EQ(result.code, kToolchainFailed);
  EXPECT_THAT(result.error, MatchesRegex("harrier: no machine code [0-9a-f]+ for sm_90a in the cache [^\n]*"
                                         "`HARRIER_FROZEN=0 harrier run w.attn --backend cuda`[^\n]*\n"));
}

TEST_F(CacheCommandTest, ShowAndVerifyAndGc) {
  ASSERT_EQ(run_on_gpu().code, kSuccess);
  const std::string key = json_of({"cache", "ls"})["artifacts"][0]["key"];
  EXPECT_THAT(run_harrier({"cache", "ls"}).out, AllOf(HasSubstr(key.substr(0, 12)), HasSubstr("1 artifacts of ")));
  const CommandResult shown = run_harrier({"cache", "show", key.substr(0, 8)});
  EXPECT_EQ(shown.code, kSuccess) << shown.error;
  EXPECT_THAT(shown.out, AllOf(HasSubstr("key " + key), HasSubstr("kernel: "), HasSubstr("builder: ")));
  EXPECT_EQ(json_of({"cache", "show", key})["parts"].size(), 2U);
  EXPECT_THAT(run_harrier({"cache", "show", "none"}).error, HasSubstr("none: 0 artifacts have keys that begin so"));
  EXPECT_THAT(run_harrier({"cache", "verify"}).out, HasSubstr("1 artifacts, 2 blobs, clean\n"));
  EXPECT_EQ(json_of({"cache", "gc", "--size", "0"})["artifacts"], 1);
  EXPECT_TRUE(json_of({"cache", "ls"})["artifacts"].empty());
}

TEST_F(CacheCommandTest, ExportImportAndMergeBringKernelsToAnotherMachine) {
  ASSERT_EQ(run_on_gpu().code, kSuccess);
  ASSERT_EQ(run_harrier({"cache", "export", path("a.db")}).code, kSuccess);
  {
    const Setting other("HARRIER_CACHE_DIR", path("other").c_str());
    const CommandResult imported = run_harrier({"cache", "import", path("a.db")});
    EXPECT_EQ(imported.out, "1 new artifacts, 0 new or newer measurements, 0 decisions\n") << imported.error;
    const Setting frozen("HARRIER_FROZEN", "1");
    EXPECT_EQ(run_on_gpu().code, kSuccess);
  }
  const Json merged = json_of({"cache", "merge", path("a.db"), path("a.db"), "-o", path("b.db")});
  EXPECT_EQ(merged["artifacts"], 1);
  EXPECT_EQ(run_harrier({"cache", "import", path("b.db")}).out,
            "0 new artifacts, 0 new or newer measurements, 0 decisions\n");
}

TEST_F(CacheCommandTest, WhatIsWrongIsOneLine) {
  EXPECT_THAT(run_harrier({"cache", "ls"}).error,
              MatchesRegex("harrier: the cache folder [^\n]* cannot be opened: [^\n]*\n"));
  EXPECT_EQ(run_harrier({"cache", "verify"}).code, kBadInput);
  EXPECT_THAT(run_harrier({"cache"}).error, MatchesRegex("harrier: [^\n]*\n"));
  EXPECT_THAT(run_harrier({"cache", "import", path("none.db")}).error, HasSubstr("none.db: no such file"));
  EXPECT_THAT(run_harrier({"cache", "gc", "--size", "-1"}).error, HasSubstr("--size -1: must be 0 or more"));
}

TEST_F(CacheCommandTest, VerifyTellsDamage) {
  ASSERT_EQ(run_on_gpu().code, kSuccess);
  std::fstream file(path("cache/harrier.db"), std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(0, std::ios::end);
  const auto size = static_cast<int64_t>(file.tellg());
  file.seekp(size / 2);
  file << std::string(8192, '!');  // more than a page, for pages are not full
  file.close();
  EXPECT_NE(run_harrier({"cache", "verify"}).code, kSuccess);
  EXPECT_EQ(run_on_gpu().code, kSuccess);
}

}  // namespace
}  // namespace harrier
