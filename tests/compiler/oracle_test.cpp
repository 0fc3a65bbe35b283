// The reference itself: against hand-made cases, against recorded Hugging Face models, and its gradients against
// central differences.
#include "support/oracle.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compiler/bigbird_table.h"
#include "ir/text.h"
#include "support/golden.h"
#include "support/oracle_expression.h"
#include "support/random_pattern.h"
#include "support/tensors.h"

namespace harrier {
namespace {

using namespace harrier::var;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Geometry one_sequence(int64_t queries, int64_t keys) {
  return {.sequences = {{.query_length = queries, .key_length = keys, .query_valid = queries, .key_valid = keys}},
          .query_tokens = queries,
          .key_tokens = keys};
}

/// Rows of digits: the multiplicity of each pair.
std::string picture(const Mask& mask, const Geometry& geometry, const Bindings& bindings = {}) {
  std::string text;
  const std::vector<int64_t> counts = oracle::multiplicities(mask, 0, 0, geometry, bindings);
  for (size_t i = 0; i < counts.size(); ++i) {
    if (i > 0 && i % static_cast<size_t>(geometry.sequences[0].key_length) == 0) text += ' ';
    text += static_cast<char>('0' + counts[i]);
  }
  return text;
}

TEST(Oracle, DrawsEveryIntervalAtom) {
  const Geometry square = one_sequence(4, 4);
  EXPECT_EQ(picture(all(), square), "1111 1111 1111 1111");
  EXPECT_EQ(picture(none(), square), "0000 0000 0000 0000");
  EXPECT_EQ(picture(causal(), square), "1000 1100 1110 1111");
  EXPECT_EQ(picture(window(1, 0), square), "1000 1100 0110 0011");
  EXPECT_EQ(picture(window(kUnbounded, 1), square), "1100 1110 1111 1111");
  EXPECT_EQ(picture(dilated(kUnbounded, 0, 2), square), "1000 0100 1010 0101");
  EXPECT_EQ(picture(sink(1), square), "1000 1000 1000 1000");
  EXPECT_EQ(picture(global_tokens(1), square), "1111 1000 1000 1000");
  EXPECT_EQ(picture(global_tokens(1, GlobalSide::kQueries), square), "1111 0000 0000 0000");
  EXPECT_EQ(picture(global_tokens(1, GlobalSide::kKeys), square), "1000 1000 1000 1000");
  EXPECT_EQ(picture(~causal() | sink(1), square), "1111 1011 1001 1000");
}

TEST(Oracle, AlignsQueriesWithTheLastKeys) {
  EXPECT_EQ(picture(causal(), one_sequence(2, 4)), "1110 1111");
  // The first two queries stand before all keys.
  EXPECT_EQ(picture(causal(), one_sequence(4, 2)), "00 00 10 11");
  EXPECT_EQ(picture(global_tokens(1, GlobalSide::kQueries), one_sequence(4, 2)), "00 00 11 00");
  const std::vector<int32_t> segment{7, 8};
  const Bindings bindings{{"s", {.data = segment.data(), .type = ElementType::kInt32, .shape = {2}}}};
  EXPECT_EQ(picture(documents("s"), one_sequence(4, 2), bindings), "00 00 10 01");
}

TEST(Oracle, ReadsTablesListsAndBits) {
  const Geometry square = one_sequence(4, 4);
  const std::vector<uint8_t> table{0, 3, 1, 0};
  const std::vector<int32_t> offsets{0, 2, 3};
  const std::vector<int32_t> indices{1, 1, 0};
  const std::vector<uint8_t> packed{0b0001, 0b0010, 0b0100, 0b1111};
  const Bindings bindings{{"t", {.data = table.data(), .type = ElementType::kUInt8, .shape = {1, 2, 2}}},
                          {"o", {.data = offsets.data(), .type = ElementType::kInt32, .shape = {1, 3}}},
                          {"i", {.data = indices.data(), .type = ElementType::kInt32, .shape = {3}}},
                          {"b", {.data = packed.data(), .type = ElementType::kUInt8, .shape = {4, 1}}}};
  EXPECT_EQ(picture(blocks(2, "t"), square, bindings), "0011 0011 1100 1100");
  EXPECT_EQ(picture(blocks(2, "t", true), square, bindings), "0033 0033 1100 1100");
  EXPECT_EQ(picture(block_lists(2, "o", "i", true), square, bindings), "0022 0022 1100 1100");
  EXPECT_EQ(picture(block_lists(2, "o", "i"), square, bindings), "0011 0011 1100 1100");
  EXPECT_EQ(picture(bits("b"), square, bindings), "1000 0100 0010 1111");
  // `&` multiplies and `|` takes the larger one.
  EXPECT_EQ(picture(blocks(2, "t", true) & block_lists(2, "o", "i", true), square, bindings), "0066 0066 1100 1100");
  EXPECT_EQ(picture(blocks(2, "t", true) | all(), square, bindings), "1133 1133 1111 1111");
}

TEST(Oracle, CountsBigBirdBlocksAsAMultiset) {
  // Six blocks of one token; in evaluation block 0 counts once and 2 times more.
  EXPECT_EQ(picture(bigbird(1, 2, BigBirdZero{}), one_sequence(6, 6)), "111111 311001 311101 301111 300111 111111");
}

TEST(Oracle, EvaluatesExpressionsWithWrappingAndFloorDivision) {
  const Geometry one = one_sequence(1, 1);
  const auto is_true = [&](const Expression& condition) { return picture(where(condition), one) == "1"; };
  EXPECT_TRUE(is_true(equal(constant(int64_t{-1}) / constant(int64_t{4}), constant(int64_t{-1}))));
  EXPECT_TRUE(is_true(equal(constant(int64_t{-1}) % constant(int64_t{4}), constant(int64_t{3}))));
  EXPECT_TRUE(is_true(equal(constant(int64_t{1}) % constant(int64_t{-4}), constant(int64_t{-3}))));
  EXPECT_TRUE(is_true(equal(constant(int64_t{5}) / constant(int64_t{0}), constant(int64_t{0}))));
  EXPECT_TRUE(is_true(constant(int64_t{2147483647}) + constant(int64_t{1}) < constant(int64_t{0})));
  EXPECT_TRUE(is_true(
      equal(binary(BinaryKind::kShiftLeft, constant(int64_t{1}), constant(int64_t{33})), constant(int64_t{2}))));
  EXPECT_TRUE(is_true(
      equal(binary(BinaryKind::kShiftRight, constant(int64_t{-8}), constant(int64_t{1})), constant(int64_t{-4}))));
}

TEST(TestTensors, SmallFloatsRoundToNearestEven) {
  const auto bits_of = [](double value, DataType dtype) {
    const std::vector<uint8_t> bytes = encode({value}, dtype);
    return bytes[0] + 256 * bytes[1];
  };
  EXPECT_EQ(bits_of(1, DataType::kFloat16), 0x3C00);
  EXPECT_EQ(bits_of(1 + std::ldexp(1, -11), DataType::kFloat16), 0x3C00) << "a tie, to even below";
  EXPECT_EQ(bits_of(1 + 3 * std::ldexp(1, -11), DataType::kFloat16), 0x3C02) << "a tie, to even above";
  EXPECT_EQ(bits_of(65504, DataType::kFloat16), 0x7BFF);
  EXPECT_EQ(bits_of(65520, DataType::kFloat16), 0x7C00) << "rounds to infinity";
  EXPECT_EQ(bits_of(-std::ldexp(1, -24), DataType::kFloat16), 0x8001) << "smallest subnormal";
  EXPECT_EQ(bits_of(std::ldexp(1, -25), DataType::kFloat16), 0x0000) << "a tie, to zero";
  EXPECT_EQ(bits_of(1 + std::ldexp(1, -8), DataType::kBFloat16), 0x3F80);
  EXPECT_EQ(bits_of(1 + 3 * std::ldexp(1, -8), DataType::kBFloat16), 0x3F82);
  for (const DataType dtype : {DataType::kFloat16, DataType::kBFloat16}) {
    for (int bits = 0; bits < 65536; ++bits) {
      const double value = decode({static_cast<uint8_t>(bits & 255), static_cast<uint8_t>(bits >> 8)}, dtype)[0];
      if (std::isnan(value)) continue;
      ASSERT_EQ(bits_of(value, dtype), bits) << name_of(dtype);
    }
  }
}

TEST(Oracle, SoftmaxModesDifferInTheirDenominatorOnly) {
  // Two keys, one hidden from query 0; scores are all 0 and values are 1 and 3.
  const Geometry geometry = one_sequence(2, 2);
  const Shape shape{.heads = 1, .kv_heads = 1, .head_dim = 1, .value_dim = 1};
  const std::vector<double> zeros(2, 0.0);
  const std::vector<double> v{1, 3};
  Pattern pattern{.mask = causal()};
  oracle::Forward result = oracle::forward(pattern, shape, geometry, {}, zeros, zeros, v);
  EXPECT_DOUBLE_EQ(result.out[0], 1);
  EXPECT_DOUBLE_EQ(result.out[1], 2);
  EXPECT_DOUBLE_EQ(result.lse[1], std::log(2.0));
  pattern.softmax = SoftmaxPrunedAsZero{};
  result = oracle::forward(pattern, shape, geometry, {}, zeros, zeros, v);
  EXPECT_DOUBLE_EQ(result.out[0], 0.5);
  EXPECT_DOUBLE_EQ(result.lse[0], std::log(2.0));
  const float logit = std::log(3.0F);
  const Bindings bindings{{"z", {.data = &logit, .type = ElementType::kFloat32, .shape = {1}}}};
  pattern.softmax = SoftmaxSinkLogit{"z"};
  result = oracle::forward(pattern, shape, geometry, bindings, zeros, zeros, v);
  EXPECT_NEAR(result.out[0], 0.25, 1e-7);
}

TEST(Oracle, EmptyRowsAndPaddingRowsAreZero) {
  Geometry geometry = one_sequence(3, 3);
  geometry.sequences[0].query_valid = 2;
  geometry.sequences[0].key_valid = 2;
  const Shape shape{.heads = 1, .kv_heads = 1, .head_dim = 1, .value_dim = 1};
  const std::vector<double> ones(3, 1.0);
  const Pattern pattern{.mask = ~sink(1) & causal(), .softmax = SoftmaxPrunedAsZero{}};
  const oracle::Forward result = oracle::forward(pattern, shape, geometry, {}, ones, ones, {5, 6, 7});
  EXPECT_EQ(result.out[0], 0);
  EXPECT_EQ(result.lse[0], -kInfinity);
  EXPECT_GT(result.out[1], 0);
  EXPECT_EQ(result.out[2], 0);
  EXPECT_EQ(result.lse[2], -kInfinity);
}

/// Loss sum(out * d_out) as a function of q, k, v.
double loss(const Pattern& pattern, const Shape& shape, const Geometry& geometry, const Bindings& bindings,
            const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v,
            const std::vector<double>& d_out) {
  const oracle::Forward result = oracle::forward(pattern, shape, geometry, bindings, q, k, v);
  double sum = 0;
  for (size_t i = 0; i < d_out.size(); ++i) sum += result.out[i] * d_out[i];
  return sum;
}

Pattern gradient_pattern(int choice) {
  using enum UnaryKind;
  Pattern pattern{.mask = causal() | sink(2)};
  if (choice == 1) pattern.softmax = SoftmaxPrunedAsZero{};
  if (choice == 2) pattern.softmax = SoftmaxSinkLogit{"z"};
  if (choice == 3) pattern.score = {.scale = 0.7, .softcap = 1.5, .alibi = "slopes", .bias = "bias", .expression = {}};
  if (choice == 4) {
    pattern.score.expression =
        unary(kTanh, s() * constant(0.5)) + s() / constant(2.0) - unary(kSqrt, s() * s() + constant(1.0));
  }
  if (choice == 5) {
    pattern.mask = bigbird(1, 2, BigBirdZero{});
    pattern.padding = PaddingAdditive{-1};
  }
  if (choice == 6) {
    // One element may be read twice by one pair, and by many pairs.
    pattern.score.alibi = "slopes";
    pattern.score.expression =
        unary(kTanh, s()) * load("gain", {h()}, true) +
        load("shift", {q() % constant(int64_t{3})}, true) * load("shift", {k() % constant(int64_t{3})}, true) +
        load("offset", {}, true);
  }
  return pattern;
}

/// The float arrays of `arrays` as doubles, which a test may change by little.
class DoubleArrays {
 public:
  explicit DoubleArrays(const RandomArrays& arrays) : bindings(arrays.bindings) {
    for (auto& [name, view] : bindings) {
      if (view.type != ElementType::kFloat32 && view.type != ElementType::kFloat64) continue;
      std::vector<double>& copy = values[name];
      for (int64_t i = 0; i < element_count(view.shape); ++i) copy.push_back(oracle::float_at(view, i));
      view = {.data = copy.data(), .type = ElementType::kFloat64, .shape = view.shape};
    }
  }
  DoubleArrays(const DoubleArrays&) = delete;
  DoubleArrays& operator=(const DoubleArrays&) = delete;

  Bindings bindings;
  std::map<std::string, std::vector<double>> values;
};

TEST(Oracle, GradientsAgreeWithCentralDifferences) {
  for (int choice = 0; choice <= 6; ++choice) {
    SCOPED_TRACE("pattern " + std::to_string(choice));
    std::mt19937_64 random(100 + static_cast<uint64_t>(choice));
    const Pattern pattern = gradient_pattern(choice);
    const Shape shape{.heads = 4, .kv_heads = 2, .head_dim = 3, .value_dim = 2};
    const Geometry geometry = random_geometry(random, 3, 7, true);
    ASSERT_GT(geometry.query_tokens, 0);
    const RandomArrays drawn = random_arrays(random, pattern, shape, geometry);
    DoubleArrays arrays(drawn);
    const auto draw = [&](int64_t count) { return random_values(random, count, DataType::kFloat32); };
    std::vector<double> q = draw(geometry.query_tokens * shape.heads * shape.head_dim);
    std::vector<double> k = draw(geometry.key_tokens * shape.kv_heads * shape.head_dim);
    std::vector<double> v = draw(geometry.key_tokens * shape.kv_heads * shape.value_dim);
    const std::vector<double> d_out = draw(geometry.query_tokens * shape.heads * shape.value_dim);
    const oracle::Backward gradient = oracle::backward(pattern, shape, geometry, arrays.bindings, q, k, v, d_out);
    const auto expect_slopes = [&](std::vector<double>& input, const std::vector<double>& expected) {
      ASSERT_EQ(input.size(), expected.size());
      constexpr double kStep = 1e-5;
      for (size_t i = 0; i < input.size(); ++i) {
        const double original = input[i];
        input[i] = original + kStep;
        const double above = loss(pattern, shape, geometry, arrays.bindings, q, k, v, d_out);
        input[i] = original - kStep;
        const double below = loss(pattern, shape, geometry, arrays.bindings, q, k, v, d_out);
        input[i] = original;
        EXPECT_NEAR(expected[i], (above - below) / (2 * kStep), 1e-7) << "element " << i;
      }
    };
    expect_slopes(q, gradient.d_q);
    expect_slopes(k, gradient.d_k);
    expect_slopes(v, gradient.d_v);
    EXPECT_EQ(gradient.d_arrays.size(), arrays.values.size());
    for (auto& [name, values] : arrays.values) {
      SCOPED_TRACE("@" + name);
      expect_slopes(values, gradient.d_arrays.at(name));
    }
  }
}

/// One recorded case: the workload and a padded geometry with its valid lengths.
struct Golden {
  std::string folder;
  Workload workload;
  Geometry geometry;

  Golden(const std::string& name, const std::string& attn)
      : folder(std::string(HARRIER_TEST_DATA) + "/goldens/" + name + "/"),
        workload(parse_workload(read_text(folder + attn + ".attn"))) {
    const GoldenArray lengths = read_golden(folder + "lengths.npy");
    const int64_t extent = read_golden(folder + "q.npy").shape[2];
    for (int64_t b = 0; b < lengths.shape[0]; ++b) {
      const int64_t valid = reinterpret_cast<const int64_t*>(lengths.bytes.data())[b];
      geometry.sequences.push_back({.query_length = extent,
                                    .key_length = extent,
                                    .query_valid = valid,
                                    .key_valid = valid,
                                    .query_token = b * extent,
                                    .key_token = b * extent});
    }
    geometry.query_tokens = geometry.key_tokens = extent * lengths.shape[0];
  }

  std::vector<double> values(const std::string& name) const {
    const GoldenArray array = read_golden(folder + name + ".npy");
    return swap_heads_and_length(array.as_doubles(), array.shape);
  }

  double error(const Bindings& bindings, const std::string& suffix, const std::string& expected) const {
    const oracle::Forward result = oracle::forward(workload.pattern, workload.shape, geometry, bindings,
                                                   values("q" + suffix), values("k" + suffix), values("v" + suffix));
    return max_error(result.out, values(expected));
  }
};

TEST(OracleGoldens, BigBirdInTrainingAgrees) {
  for (const char* name : {"bigbird_train_1024", "bigbird_train_padded_960"}) {
    SCOPED_TRACE(name);
    const Golden golden(name, name);
    const GoldenArray table = read_golden(golden.folder + "table.npy");
    EXPECT_LT(golden.error({{"table", table.view()}}, "", "out"), 1e-4);
  }
}

TEST(OracleGoldens, BigBirdDrawsTheSameTableFromItsSeed) {
  Golden golden("bigbird_train_padded_960", "bigbird_train_padded_960");
  golden.workload.pattern.mask = bigbird(64, 3, BigBirdSeed{1});
  EXPECT_LT(golden.error({}, "", "out"), 1e-4);
}

TEST(OracleGoldens, BigBirdInEvaluationAgrees) {
  for (const char* name : {"bigbird_eval_1024", "bigbird_eval_padded_960"}) {
    SCOPED_TRACE(name);
    EXPECT_LT(Golden(name, name).error({}, "", "out"), 1e-4);
  }
}

TEST(OracleGoldens, LongformerAgreesInItsTwoParts) {
  for (const std::string name : {"longformer_w128_768", "longformer_w64_512"}) {
    SCOPED_TRACE(name);
    const Golden local(name, name + "_local");
    const GoldenArray tokens = read_golden(local.folder + "tokens.npy");
    EXPECT_LT(local.error({{"tokens", tokens.view()}}, "", "out_local"), 1e-4);
    EXPECT_LT(Golden(name, name + "_global").error({{"tokens", tokens.view()}}, "_global", "out_global"), 1e-4);
  }
}

}  // namespace
}  // namespace harrier
