// `harrier run` from files to files, against the double-precision reference.
#include <cmath>
#include <limits>
#include <random>

#include "cli/convert.h"
#include "cli/run_output.h"
#include "cli_fixture.h"
#include "ir/text.h"
#include "support/oracle.h"
#include "support/tensors.h"

namespace harrier {
namespace {

using Json = nlohmann::json;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class RunTest : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    const std::string probe = write_text("probe.attn", "attention p { heads 1 head_dim 16 mask all lengths fixed(1) }");
    const CommandResult result = run_harrier({"run", probe});
    if (result.code == kToolchainFailed) GTEST_SKIP() << "no backend in this build: " << result.error;
  }

  NpyArray draw(std::vector<int64_t> shape) {
    const std::vector<double> values = random_values(random_, element_count(shape), DataType::kFloat32);
    return make_array<float>(ElementType::kFloat32, std::move(shape), std::vector<float>(values.begin(), values.end()));
  }

  static std::vector<double> doubles(const NpyArray& array) {
    const std::vector<float> values = as_floats(array.bytes.data(), array.type, element_count(array.shape));
    return {values.begin(), values.end()};
  }

  std::mt19937_64 random_{11};
};

/// 2 packed sequences of 70 and 33 tokens.
Geometry two_sequences() {
  return {.sequences = {{70, 70, 70, 70, 0, 0}, {33, 33, 33, 33, 70, 70}}, .query_tokens = 103, .key_tokens = 103};
}

constexpr const char* kPackedWorkload =
    "attention p { heads 4 kv_heads 2 head_dim 32 value_dim 16 mask causal & window(20, 0) lengths fixed(64) }";

TEST_F(RunTest, PackedArraysGiveWhatTheOracleGives) {
  const std::string file = write_text("packed.attn", kPackedWorkload);
  const NpyArray q = draw({103, 4, 32});
  const NpyArray k = draw({103, 2, 32});
  const NpyArray v = draw({103, 2, 16});
  const Workload workload = parse_workload(kPackedWorkload);
  const oracle::Forward expected =
      oracle::forward(workload.pattern, workload.shape, two_sequences(), {}, doubles(q), doubles(k), doubles(v));
  const NpyArray reference = make_array<double>(ElementType::kFloat64, {103, 4, 16}, expected.out);
  const std::vector<std::string> arguments{
      "run",          file,
      "--q",          write_array("q.npy", q),
      "--k",          write_array("k.npy", k),
      "--v",          write_array("v.npy", v),
      "--cu-seqlens", write_array("cu.npy", make_array<int32_t>(ElementType::kInt32, {3}, {0, 70, 103})),
      "--expect",     write_array("ref.npy", reference),
      "--out",        path("o.npy"),
      "--lse",        path("l.npy"),
      "--json"};
  const CommandResult result = run_harrier(arguments);
  ASSERT_EQ(result.code, kSuccess) << result.error << result.out;
  const Json json = Json::parse(result.out);
  EXPECT_LT(json["expect"]["max_error"], 1e-5);
  EXPECT_TRUE(json["expect"]["ok"]);
  EXPECT_EQ(json["sequences"], 2);
  EXPECT_EQ(json["query_tokens"], 103);
  // 21 keys a row but for the first 20 rows of each sequence, in four heads.
  EXPECT_EQ(json["visible_pairs"], 4 * (21 * (70 + 33) - 2 * 210));
  EXPECT_EQ(read_npy(path("o.npy")).type, ElementType::kFloat32);
  EXPECT_EQ(read_npy(path("o.npy")).shape, (std::vector<int64_t>{103, 4, 16}));
  EXPECT_LT(max_error(doubles(read_npy(path("l.npy"))), expected.lse), 1e-5);
}

TEST_F(RunTest, GradientsGoToFilesAndAgreeWithTheOracle) {
  constexpr const char* kLearned =
      "attention p { heads 4 kv_heads 2 head_dim 32 value_dim 16 mask causal score alibi(@slopes) lengths fixed(64) }";
  const std::string file = write_text("learned.attn", kLearned);
  const NpyArray q = draw({103, 4, 32});
  const NpyArray k = draw({103, 2, 32});
  const NpyArray v = draw({103, 2, 16});
  const NpyArray d_out = draw({103, 4, 16});
  const NpyArray slopes = make_array<float>(ElementType::kFloat32, {4}, {0.5F, 0.25F, 0.125F, 0.0625F});
  const Workload workload = parse_workload(kLearned);
  const oracle::Backward expected =
      oracle::backward(workload.pattern, workload.shape, two_sequences(), {{"slopes", slopes.view()}}, doubles(q),
                       doubles(k), doubles(v), doubles(d_out));
  write_array("ref_d_q.npy", make_array<double>(ElementType::kFloat64, {103, 4, 32}, expected.d_q));
  write_array("ref_d_k.npy", make_array<double>(ElementType::kFloat64, {103, 2, 32}, expected.d_k));
  write_array("ref_d_v.npy", make_array<double>(ElementType::kFloat64, {103, 2, 16}, expected.d_v));
  write_array("ref_d_slopes.npy", make_array<double>(ElementType::kFloat64, {4}, expected.d_arrays.at("slopes")));
  const std::vector<std::string> arguments{
      "run",
      file,
      "--backward",
      "--bind",
      "slopes=" + write_array("slopes.npy", slopes),
      "--q",
      write_array("q.npy", q),
      "--k",
      write_array("k.npy", k),
      "--v",
      write_array("v.npy", v),
      "--d-out",
      write_array("do.npy", d_out),
      "--cu-seqlens",
      write_array("cu.npy", make_array<int32_t>(ElementType::kInt32, {3}, {0, 70, 103})),
      "--gradients",
      path("grad_"),
      "--expect-gradients",
      path("ref_"),
      "--tolerance",
      "1e-3",
      "--json"};
  const CommandResult result = run_harrier(arguments);
  ASSERT_EQ(result.code, kSuccess) << result.error << result.out;
  const Json json = Json::parse(result.out);
  for (const char* name : {"d_q", "d_k", "d_v", "d_slopes"}) {
    EXPECT_TRUE(json["expect_gradients"][name]["ok"]) << name;
    EXPECT_EQ(read_npy(path(std::string("grad_") + name + ".npy")).shape,
              read_npy(path(std::string("ref_") + name + ".npy")).shape);
  }
  EXPECT_EQ(json["backend"], "cpu");
}

TEST_F(RunTest, AFileWithDirectionBackwardRunsBackward) {
  const std::string file =
      write_text("b.attn", "attention b { heads 1 head_dim 16 mask causal direction backward lengths fixed(20) }");
  ASSERT_EQ(run_harrier({"run", file, "--gradients", path("g_")}).code, kSuccess);
  EXPECT_EQ(run_harrier({"run", file, "--expect-gradients", path("g_"), "--tolerance", "0"}).code, kSuccess)
      << "equal seeds give equal bits";
  write_array("g_d_v.npy", draw({20, 1, 16}));
  EXPECT_EQ(run_harrier({"run", file, "--expect-gradients", path("g_")}).code, kOutsideTolerance);
}

TEST_F(RunTest, OutsideTheToleranceIsCodeOneAndSaysWhere) {
  const std::string file =
      write_text("a.attn", "attention a { heads 2 head_dim 16 mask causal lengths fixed(20) batch 2 }");
  ASSERT_EQ(run_harrier({"run", file, "--out", path("o.npy")}).code, kSuccess);
  EXPECT_EQ(run_harrier({"run", file, "--expect", path("o.npy"), "--tolerance", "0"}).code, kSuccess)
      << "equal seeds give equal bits";
  NpyArray changed = read_npy(path("o.npy"));
  const int64_t index = (7 * 2 + 1) * 16 + 3;  // token 7, head 1, dim 3
  float value = 0;
  std::memcpy(&value, changed.bytes.data() + 4 * index, 4);
  value += 0.5F;
  std::memcpy(changed.bytes.data() + 4 * index, &value, 4);
  const CommandResult result = run_harrier({"run", file, "--expect", write_array("changed.npy", changed)});
  EXPECT_EQ(result.code, kOutsideTolerance);
  EXPECT_NE(result.out.find(" at [7, 1, 3], OUTSIDE tolerance 0.0001\n"), std::string::npos) << result.out;
  EXPECT_EQ(run_harrier({"run", file, "--expect", path("changed.npy"), "--tolerance", "0.6"}).code, kSuccess);
}

TEST_F(RunTest, PaddedRowsAreZeroAndLengthsCount) {
  const std::string file = write_text("a.attn", "attention a { heads 1 head_dim 16 mask all lengths fixed(8) }");
  const std::vector<std::string> arguments{
      "run",       file,
      "--q",       write_array("q.npy", draw({2, 1, 8, 16})),
      "--k",       write_array("k.npy", draw({2, 1, 8, 16})),
      "--v",       write_array("v.npy", draw({2, 1, 8, 16})),
      "--lengths", write_array("l.npy", make_array<int64_t>(ElementType::kInt64, {2}, {8, 3})),
      "--out",     path("o.npy"),
      "--lse",     path("lse.npy")};
  const CommandResult result = run_harrier(arguments);
  ASSERT_EQ(result.code, kSuccess) << result.error;
  const std::vector<double> out = doubles(read_npy(path("o.npy")));
  const std::vector<double> lse = doubles(read_npy(path("lse.npy")));
  for (size_t row = 0; row < 16; ++row) {
    const bool is_valid = row < 8 + 3;
    EXPECT_EQ(std::isfinite(lse[row]), is_valid) << row;
    if (!is_valid) {
      EXPECT_EQ(out[row * 16], 0.0) << row;
    }
  }
}

TEST_F(RunTest, OneOutputIsMergedFromTwoPatterns) {
  const std::string first =
      write_text("even.attn", "attention e { heads 1 head_dim 16 mask where(q % 2 == 0) lengths fixed(9) }");
  const std::string second =
      write_text("odd.attn", "attention o { heads 1 head_dim 16 mask where(q % 2 == 1) lengths fixed(9) }");
  const std::string whole = write_text("all.attn", "attention a { heads 1 head_dim 16 mask all lengths fixed(9) }");
  ASSERT_EQ(run_harrier({"run", whole, "--out", path("all.npy")}).code, kSuccess);
  ASSERT_EQ(run_harrier({"run", first, "--out", path("o.npy")}).code, kSuccess);
  EXPECT_EQ(run_harrier({"run", first, "--expect", path("all.npy")}).code, kOutsideTolerance);
  const NpyArray half = read_npy(path("o.npy"));
  // With --out the file merged into stays as it was.
  ASSERT_EQ(
      run_harrier({"run", second, "--merge-into", path("o.npy"), "--out", path("m.npy"), "--expect", path("all.npy")})
          .code,
      kSuccess);
  EXPECT_EQ(read_npy(path("o.npy")), half);
  const CommandResult merged = run_harrier({"run", second, "--merge-into", path("o.npy"), "--expect", path("all.npy")});
  EXPECT_EQ(merged.code, kSuccess) << merged.out;
  EXPECT_EQ(read_npy(path("o.npy")), read_npy(path("m.npy")));
}

TEST_F(RunTest, OtherFloatTypesAreConvertedAndSaid) {
  const std::string file =
      write_text("b.attn", "attention b { heads 1 head_dim 16 dtype bf16 mask all lengths fixed(8) }");
  const NpyArray q = draw({1, 1, 8, 16});
  const NpyArray raw = in_dtype(q, DataType::kBFloat16, "");
  NpyArray as_integers = raw;
  as_integers.type = ElementType::kUInt16;
  write_array("float.npy", q);
  write_array("bf16.npy", raw);
  write_array("uint16.npy", as_integers);
  std::vector<NpyArray> outputs;
  for (const char* name : {"float.npy", "bf16.npy", "uint16.npy"}) {
    const CommandResult result =
        run_harrier({"run", file, "--q", path(name), "--k", path(name), "--v", path(name), "--out", path("o.npy")});
    ASSERT_EQ(result.code, kSuccess) << result.error;
    EXPECT_EQ(result.error.find("--q is read as bf16") != std::string::npos, std::string(name) != "bf16.npy")
        << result.error;
    outputs.push_back(read_npy(path("o.npy")));
  }
  EXPECT_EQ(outputs[0], outputs[1]);
  EXPECT_EQ(outputs[0], outputs[2]);
}

TEST_F(RunTest, BadArraysAreRefusedByOneLine) {
  const std::string file =
      write_text("t.attn", "attention t { heads 1 head_dim 16 mask blocks(4, @table) lengths fixed(8) }");
  write_array("a.npy", draw({1, 1, 8, 16}));
  write_array("flat.npy", draw({8, 16}));
  write_array("heads.npy", draw({1, 2, 8, 16}));
  write_array("int.npy", make_array<int32_t>(ElementType::kInt32, {1, 1, 8, 16}, std::vector<int32_t>(128)));
  write_array("table.npy", make_array<uint8_t>(ElementType::kUInt8, {1, 2, 2}, {1, 0, 1, 1}));
  write_array("small.npy", make_array<uint8_t>(ElementType::kUInt8, {1, 1, 1}, {1}));
  write_array("floats.npy", draw({1, 2, 2}));
  write_array("lengths.npy", make_array<int64_t>(ElementType::kInt64, {1}, {9}));
  write_array("negative.npy", make_array<int64_t>(ElementType::kInt64, {1}, {-1}));
  const auto with = [&](const std::string& q, const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"run",         file,  "--q",         path(q), "--k",
                                       path("a.npy"), "--v", path("a.npy"), "--out", path("o.npy")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const std::vector<std::string> table{"--bind", "table=" + path("table.npy")};
  struct Case {
    std::vector<std::string> arguments;
    std::string part;  // of the message
  };
  const std::vector<Case> cases{
      {with("a.npy", {}), "table"},
      {with("a.npy", {"--bind", "other=" + path("table.npy")}), "the pattern has no @other: it binds @table"},
      {with("a.npy", {"--bind", "table=" + path("small.npy")}), "table"},
      {with("a.npy", {"--bind", "table=" + path("floats.npy")}), "table"},
      {with("flat.npy", table),
       "2 dimensions, not 4: arrays are [batch, heads, length, dim]; packed ones need --cu-seqlens"},
      {with("heads.npy", table), "heads"},
      {with("int.npy", table), "dtype int32 cannot be read as fp32: save it as float32"},
      {with("a.npy", {"--bind", table[1], "--lengths", path("lengths.npy")}), "9"},
      {with("a.npy", {"--bind", table[1], "--lengths", path("negative.npy")}), "-1"},
      {with("a.npy", {"--bind", table[1], "--lengths", path("a.npy")}),
       "4 dimensions, not 1: save a plain list of integers"},
      {with("a.npy", {"--bind", table[1], "--expect", path("flat.npy")}),
       "--expect flat.npy: shape (8, 16) is not the output's (1, 1, 8, 16): name a file of that shape"},
      {with("a.npy", {"--bind", table[1], "--merge-into", path("int.npy")}),
       "--merge-into int.npy: dtype int32 cannot be read as fp32: save it as float32"},
  };
  ASSERT_EQ(run_harrier(with("a.npy", table)).code, kSuccess) << "the same arguments without the fault";
  std::filesystem::remove(path("o.npy"));
  for (const Case& bad : cases) {
    const CommandResult result = run_harrier(bad.arguments);
    const std::string error = without_folder(result.error);
    EXPECT_EQ(result.code, kBadInput) << error;
    EXPECT_TRUE(error.starts_with("harrier: ")) << error;
    EXPECT_NE(error.find(bad.part), std::string::npos) << error << "lacks: " << bad.part;
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
    EXPECT_FALSE(std::filesystem::exists(path("o.npy"))) << "nothing is written on bad input";
  }
}

TEST_F(RunTest, WithoutArraysEverythingIsDrawnFromTheSeed) {
  const std::string file = write_text("d.attn",
                                      "attention d { heads 2 head_dim 16 mask documents(@segment) & causal | "
                                      "blocks(16, @table) lengths uniform(0, 90) batch 5 }");
  const CommandResult first = run_harrier({"run", file, "--seed", "4", "--out", path("a.npy"), "--repeat", "3"});
  ASSERT_EQ(first.code, kSuccess) << first.error;
  EXPECT_NE(first.error.find("@segment is drawn at random"), std::string::npos) << first.error;
  for (const char* word :
       {"compiled  ", "plan      tile", "compile   ", "batch     5 sequences", "skipped", "median of 3", "GFLOP/s"}) {
    EXPECT_NE(first.out.find(word), std::string::npos) << word << " in " << first.out;
  }
  ASSERT_EQ(run_harrier({"run", file, "--seed", "4", "--out", path("b.npy"), "--threads", "1"}).code, kSuccess);
  EXPECT_EQ(read_text("a.npy"), read_text("b.npy"));
  ASSERT_EQ(run_harrier({"run", file, "--seed", "5", "--out", path("c.npy")}).code, kSuccess);
  EXPECT_NE(read_text("a.npy"), read_text("c.npy"));
}

TEST_F(RunTest, PassesAreDumpedOnRequest) {
  const std::string file =
      write_text("a.attn", "attention a { heads 1 head_dim 16 mask all & causal lengths fixed(8) }");
  const CommandResult one = run_harrier({"run", file, "--dump-after", "simplify", "--repeat", "2"});
  EXPECT_EQ(one.error.find("after simplify:\n"), one.error.rfind("after "));
  const CommandResult all = run_harrier({"run", file, "--dump-after", "all", "--json"});
  for (const char* pass :
       {"simplify", "choose_plan", "lower_pattern", "differentiate", "bind", "classify_tiles", "schedule_rows"}) {
    EXPECT_NE(all.error.find(std::string("after ") + pass + ":\n"), std::string::npos) << pass;
  }
  EXPECT_TRUE(Json::accept(all.out));
}

TEST_F(RunTest, EmitShowsTheKernel) {
  const std::string file = write_text("a.attn", "attention a { heads 1 head_dim 16 mask causal lengths fixed(8) }");
  const CommandResult result = run_harrier({"emit", file, "--llvm"});
  EXPECT_EQ(result.code, kSuccess) << result.error;
  EXPECT_NE(result.out.find("define "), std::string::npos);
}

TEST(Compare, NaNOnOneSideIsInfinitelyWrong) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto row = [](const std::vector<float>& values) {
    return make_array<float>(ElementType::kFloat32, {1, 3}, values);
  };
  EXPECT_EQ(compare(row({1, nan, kInfinity}), row({1, nan, kInfinity})).max_error, 0);
  EXPECT_EQ(compare(row({1, nan, 0}), row({1, 0, 0})).max_error, kInfinity);
  EXPECT_EQ(compare(row({1, 0, 0}), row({1, 0, nan})).at, (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(compare(row({1, 0, kInfinity}), row({1, 0, -kInfinity})).max_error, kInfinity);
  // Relative above 1, absolute below.
  EXPECT_FLOAT_EQ(static_cast<float>(compare(row({110, 0, 0}), row({100, 0, 0})).max_error), 0.1F);
  EXPECT_FLOAT_EQ(static_cast<float>(compare(row({0.25F, 0, 0}), row({0.125F, 0, 0})).max_error), 0.125F);
}

TEST(KeepHiddenRows, OnlyRowsWithoutAVisibleKeyAreKept) {
  NpyArray out = make_array<float>(ElementType::kFloat32, {3, 2}, {1, 2, 0, 0, 5, 6});
  const NpyArray lse = make_array<float>(ElementType::kFloat32, {3}, {0.5F, -kInfinity, -2.0F});
  keep_hidden_rows(out, lse, make_array<float>(ElementType::kFloat32, {3, 2}, {9, 9, 8, 7, 9, 9}));
  EXPECT_EQ(out, make_array<float>(ElementType::kFloat32, {3, 2}, {1, 2, 8, 7, 5, 6}));
}

}  // namespace
}  // namespace harrier
