#include <gmock/gmock.h>

#include <map>

#include "cli_fixture.h"

namespace harrier {
namespace {

using Json = nlohmann::json;

constexpr const char* kCausal = "attention small { heads 2 head_dim 32 mask causal lengths fixed(256) batch 2 }\n";
constexpr const char* kTable =
    "attention tables { heads 4 head_dim 32 mask blocks(64, @table) & documents(@segment) | global(@tokens)\n"
    "  score alibi(@slopes) lengths fixed(300) }\n";

class CommandLineTest : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    causal_ = write_text("causal.attn", kCausal);
  }
  std::string causal_;
};

TEST_F(CommandLineTest, HelpNamesEveryCommandAndEveryCommandHasItsOwn) {
  const CommandResult help = run_harrier({"--help"});
  EXPECT_EQ(help.code, kSuccess);
  for (const char* command : {"check", "show", "emit", "run"}) {
    EXPECT_NE(help.out.find(std::string("\n  ") + command), std::string::npos) << command;
    const CommandResult own = run_harrier({command, "--help"});
    EXPECT_EQ(own.code, kSuccess);
    EXPECT_NE(own.out.find("--json"), std::string::npos) << command;
    EXPECT_NE(own.out.find(std::string("harrier ") + command), std::string::npos) << command << " shows no example";
    EXPECT_EQ(own.error, "");
  }
  EXPECT_EQ(run_harrier({"--version"}).out, "harrier 0.1.0\n");
}

TEST_F(CommandLineTest, WrongWordsGetOneLineAndCodeTwo) {
  const std::string file = causal_;
  const std::map<std::vector<std::string>, std::string> expected{
      {{}, "no command given: harrier --help lists them"},
      {{"shwo"}, "unknown command shwo: did you mean show?"},
      {{"frobnicate"}, "unknown command frobnicate: harrier --help lists them"},
      {{"show", file, "--tile", "64"}, "--tile 64: give queries x keys, each 1 to 4096: --tile 64x64, say"},
      {{"show", file, "--tile", "0x64"}, "--tile 0x64: give queries x keys, each 1 to 4096: --tile 64x64, say"},
      {{"show", file, "--tile", "64x64x"}, "--tile 64x64x: give queries x keys, each 1 to 4096: --tile 64x64, say"},
      {{"show", file, "--head", "2"}, "--head 2: must lie in 0 to 1: name a head of the workload"},
      {{"show", file, "--batch-row", "2"}, "--batch-row 2: must lie in 0 to 1: name a row of the workload's batch"},
      {{"show", file, "--lengths", "4294967296"},
       "--lengths 4294967296: must lie in 0 to 2147483647: give a shorter length"},
      {{"show", file, "--lengths", "8", "--batch-row", "1"},
       "--batch-row 1: must lie in 0 to 0: with --lengths there is one sequence"},
      {{"show", file, "--width", "3"}, "--width 3: must lie in 20 to 10000: give the terminal's width in characters"},
      {{"show", file, "--bind", "table"}, "--bind table: not NAME=FILE: --bind table=table.npy, say"},
      {{"show", file, "--bind", "t=a.npy"},
       "--bind t=a.npy: the pattern has no @t: it binds no array, leave --bind out"},
      {{"run", file, "--backend", "tpu"}, "--backend tpu: unknown: use cpu, cuda or auto"},
      {{"run", file, "--repeat", "0"}, "--repeat 0: must lie in 1 to 1000000: give the number of timed runs"},
      {{"run", file, "--threads", "-1"}, "--threads -1: must lie in 0 to 4096: 0 takes every core"},
      {{"run", file, "--tolerance", "-1"}, "--tolerance -1: must be 0 or more: give a finite number"},
      {{"run", file, "--dump-after", "fuse"},
       "--dump-after fuse: no such pass: name one of simplify, choose_plan, lower_pattern, differentiate, bind, "
       "classify_tiles, "
       "schedule_rows, choose_cuda_plan, bound_segments, emit_cuda or all"},
      {{"run", file, "--gradients", "g_"}, "--gradients is for gradients: add --backward"},
      {{"run", file, "--deterministic"}, "--deterministic is for gradients, outputs are so anyway: add --backward"},
      {{"run", file, "--backward", "--expect", "o.npy"},
       "--expect compares an output: use --expect-gradients with --backward"},
      {{"run", file, "--q", "q.npy"}, "--k is missing: give --q, --k and --v together, or none for random ones"},
      {{"run", file, "--k", "k.npy"}, "--q is missing: give --q, --k and --v together, or none for random ones"},
      {{"run", file, "--lengths", "l.npy"},
       "--lengths needs arrays: give --q, --k and --v, or set lengths in the .attn file"},
      {{"run", file, "--q", "a", "--k", "b", "--v", "c", "--lengths", "l", "--cu-seqlens", "c"},
       "--lengths and --cu-seqlens exclude each other: lengths are for padded arrays, offsets for packed"},
      {{"run", file, "--q", "a", "--k", "b", "--v", "c", "--key-cu-seqlens", "c"},
       "--key-cu-seqlens needs --cu-seqlens: give the offsets of the queries too"},
      {{"run", file, "--q", "missing.npy", "--k", "b", "--v", "c"}, "missing.npy: no such file: check the path"},
      {{"run", file, "--out", "/no/such/folder/o.npy"},
       "/no/such/folder/o.npy: cannot be created (No such file or directory): name a writable file in a folder that "
       "exists"},
      {{"check", "missing.attn"}, "missing.attn: no such file: check the path of the .attn file"},
      {{"emit", "/"}, "/: cannot be read: name an .attn file you may read"},
  };
  for (const auto& [arguments, message] : expected) {
    const CommandResult result = run_harrier(arguments);
    EXPECT_EQ(result.error, "harrier: " + message + "\n");
    EXPECT_EQ(result.code, kBadInput) << message;
    EXPECT_EQ(result.out, "") << message;
  }
}

TEST_F(CommandLineTest, WhatTheParserOfOptionsRefusesIsOneLineToo) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"show"},
                                                    {"check"},
                                                    {"show", causal_, "--frob"},
                                                    {"show", causal_, "--lengths", "many"},
                                                    {"run", causal_, "--repeat"},
                                                    {"emit", causal_, "--llvm", "--canonical"},
                                                    {"show", causal_, "extra"}}) {
    const CommandResult result = run_harrier(arguments);
    EXPECT_EQ(result.code, kBadInput) << result.error;
    EXPECT_TRUE(result.error.starts_with("harrier: ")) << result.error;
    EXPECT_NE(result.error.find("--help lists what it takes\n"), std::string::npos) << result.error;
    EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
  }
}

TEST_F(CommandLineTest, CheckPrintsCanonicalTextAndWhatMustBeBound) {
  const CommandResult result = run_harrier({"check", write_text("tables.attn", kTable)});
  EXPECT_EQ(result.code, kSuccess) << result.error;
  const std::string out = without_folder(result.out);
  EXPECT_TRUE(out.starts_with("tables.attn: ok\n  heads 4 kv_heads 4 head_dim 32 ")) << out;
  EXPECT_NE(out.find("@table    block table    integers [4 or 1, row blocks, key blocks], blocks of 64\n"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find("@segment  "), std::string::npos);
  EXPECT_NE(out.find("integers [n] or [batch, n], padded with -1\n"), std::string::npos);
  EXPECT_NE(out.find("@slopes   alibi slopes   floats [4]\n"), std::string::npos) << out;
}

TEST_F(CommandLineTest, CheckGoesOnAfterABadFileAndPlacesTheError) {
  const std::string bad = write_text("bad.attn", "attention x { heads 2 head_dim 32 mask cusal lengths fixed(8) }\n");
  const std::string odd = write_text("odd.attn", "attention x { heads 2 head_dim 33 mask causal lengths fixed(8) }\n");
  const CommandResult result = run_harrier({"check", bad, odd, causal_});
  EXPECT_EQ(result.code, kBadInput);
  EXPECT_EQ(without_folder(result.error),
            "harrier: bad.attn:1:40: found 'cusal', expected a mask; did you mean 'causal'?\n"
            "attention x { heads 2 head_dim 32 mask cusal lengths fixed(8) }\n"
            "                                       ^\n"
            "harrier: odd.attn: head_dim is 33, expected a multiple of 8 in 16..256; pad the heads with zeros\n");
  EXPECT_NE(without_folder(result.out).find("causal.attn: ok"), std::string::npos);
}

TEST_F(CommandLineTest, EveryCommandPrintsOneJsonObject) {
  const std::string bad = write_text("bad.attn", "attention {");
  const Json check = Json::parse(run_harrier({"check", causal_, bad, "--json"}).out);
  EXPECT_FALSE(check["ok"]);
  EXPECT_TRUE(check["files"][0]["ok"]);
  EXPECT_EQ(check["files"][0]["name"], "small");
  EXPECT_TRUE(check["files"][1].contains("error"));

  const Json emitted = Json::parse(run_harrier({"emit", causal_, "--json"}).out);
  EXPECT_EQ(emitted["kind"], "canonical");
  EXPECT_EQ(emitted["text"].get<std::string>(), run_harrier({"emit", causal_}).out);

  const Json shown = Json::parse(run_harrier({"show", causal_, "--json"}).out);
  EXPECT_EQ(shown["cells"], (Json{"+...", "#+..", "##+.", "###+"}));
  EXPECT_EQ(shown["tiles"], (Json{{"full", 6}, {"partial", 4}, {"empty", 6}}));

  const CommandResult failed = run_harrier({"show", bad, "--json"});
  EXPECT_EQ(failed.code, kBadInput);
  EXPECT_EQ(Json::parse(failed.out)["exit_code"], 2);
  EXPECT_EQ("harrier: " + Json::parse(failed.out)["error"].get<std::string>() + "\n", failed.error);
}

TEST_F(CommandLineTest, EmitWritesWholeFiles) {
  const CommandResult result = run_harrier({"emit", causal_, "-o", path("canonical.txt")});
  EXPECT_EQ(result.code, kSuccess);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(read_text("canonical.txt"), run_harrier({"emit", causal_, "--canonical"}).out);
  EXPECT_EQ(files(), (std::vector<std::string>{"canonical.txt", "causal.attn"}));
}

TEST_F(CommandLineTest, ShowDrawsTilesOfASmallPattern) {
  const CommandResult result = run_harrier({"show", causal_});
  EXPECT_EQ(result.code, kSuccess) << result.error;
  EXPECT_THAT(result.out, testing::StartsWith("small: window(inf, 0)\n"
                                              "256 queries x 256 keys, sequence 0 of 2, head 0 of 2, tiles of 64 x 64\n"
                                              "\n"
                                              "   0 ▒▒······  ██▌        64\n"
                                              "  64 ██▒▒····  █████      128\n"
                                              " 128 ████▒▒··  ███████▌   192\n"
                                              " 192 ██████▒▒  ██████████ 256\n"
                                              "\n"
                                              "██ full 6 (37.5 %)   ▒▒ partial 4 (25.0 %)   ·· empty 6 (37.5 %)\n"
                                              "plan cpu  "));
  EXPECT_EQ(result.error, "");
}

TEST_F(CommandLineTest, ShowDrawsEverySinglePairWithTilesOfOne) {
  const std::string file = write_text(
      "dilated.attn", "attention d { heads 1 head_dim 32 mask dilated(4, 0, 2) | sink(1) lengths fixed(6) }\n");
  const CommandResult result = run_harrier({"show", file, "--lengths", "6", "--tile", "1x1"});
  EXPECT_NE(result.out.find("\n 0 ██··········  "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("\n 3 ████··██····  "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("\n 5 ████··██··██  "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("partial 0 (0.0 %)"), std::string::npos) << result.out;
}

TEST_F(CommandLineTest, ShowFitsAnyWidthAndAnyLength) {
  for (const char* width : {"20", "40", "80", "200"}) {
    for (const char* length : {"0", "1", "63", "4097", "1000000"}) {
      const CommandResult result = run_harrier({"show", causal_, "--lengths", length, "--width", width});
      ASSERT_EQ(result.code, kSuccess) << result.error;
      std::istringstream lines(result.out);
      std::string line;
      for (int skipped = 0; skipped < 4; ++skipped) std::getline(lines, line);
      while (std::getline(lines, line) && !line.empty() && !line.starts_with("██ full")) {
        const auto characters = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; });
        EXPECT_LE(characters, std::max(43, std::stoi(width))) << line;
      }
    }
  }
}

TEST_F(CommandLineTest, ShowDrawsUnboundArraysAndSaysSo) {
  const std::string file = write_text("tables.attn", kTable);
  const CommandResult result = run_harrier({"show", file, "--seed", "3", "--svg", path("t.svg")});
  EXPECT_EQ(result.code, kSuccess) << result.error;
  EXPECT_NE(result.error.find("harrier: note: @table is drawn at random: uint8 [1, 5, 5] (seed 3)\n"),
            std::string::npos)
      << result.error;
  EXPECT_NE(result.error.find("@segment is drawn at random: int32 [300]"), std::string::npos);
  EXPECT_TRUE(read_text("t.svg").starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_EQ(run_harrier({"show", file, "--seed", "3"}).out + "drawn in " + path("t.svg") + "\n", result.out);

  NpyArray table = make_array<uint8_t>(ElementType::kUInt8, {1, 5, 5}, std::vector<uint8_t>(25, 1));
  const CommandResult bound = run_harrier({"show", file, "--bind", "@table=" + write_array("table.npy", table)});
  EXPECT_EQ(bound.code, kSuccess) << bound.error;
  EXPECT_EQ(bound.error.find("@table"), std::string::npos);
  const CommandResult twice =
      run_harrier({"show", file, "--bind", "table=" + path("table.npy"), "--bind", "table=" + path("table.npy")});
  EXPECT_EQ(twice.code, kBadInput);
  EXPECT_NE(twice.error.find("@table is bound already: bind each name once"), std::string::npos);
}

TEST_F(CommandLineTest, DrawnArraysFitEveryKindOfPattern) {
  const char* masks[] = {"blocks(16, @t, counted)",
                         "blocks(16, @offsets, @indices)",
                         "bigbird(16, 2, @t)",
                         "bits(@m)",
                         "global(@g) | window(3, 3)",
                         "global(@g, keys) & causal",
                         "documents(@d)",
                         "where(@a[h] < k - q + @w)",
                         "where(@a[q / 16, @p[k % 8]] > 2)",
                         "none | where(@a[b, h] % 2 == k % 2)"};
  for (const char* mask : masks) {
    SCOPED_TRACE(mask);
    const std::string file =
        write_text("drawn.attn", std::string("attention d { heads 2 head_dim 32 mask ") + mask +
                                     " softmax sink_logit(@s) score bias(@bias) lengths uniform(40, 200) batch 3 }");
    for (const char* seed : {"1", "2", "3", "4"}) {
      const CommandResult result = run_harrier({"show", file, "--seed", seed, "--batch-row", "2"});
      EXPECT_EQ(result.code, kSuccess) << result.error;
    }
  }
}

}  // namespace
}  // namespace harrier
