// Golden messages: what stands there, what should, what to do, and a caret below the place.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ir/error.h"
#include "ir/text.h"

namespace harrier {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_workload(text);
  } catch (const InvalidInput& error) {
    return error.what();
  }
  return "no error";
}

struct Golden {
  std::string text;
  std::string error;
};

void expect_errors(const std::vector<Golden>& goldens) {
  for (const Golden& golden : goldens) EXPECT_EQ(error_of(golden.text), golden.error) << "in: " << golden.text;
}

/// The same for text inside "attention a { ... }", which adds 14 columns; only the first line is compared.
void expect_inside(const std::vector<Golden>& goldens) {
  for (const Golden& golden : goldens) {
    const std::string error = error_of("attention a { " + golden.text + " }");
    EXPECT_EQ(error.substr(0, error.find('\n')), golden.error) << "in: " << golden.text;
  }
}

TEST(ParseError, PointsAtThePlace) {
  expect_errors({
      {"", "1:1: found the end of the text, expected 'attention NAME { ... }'\n\n^"},
      {"attention", "1:10: found the end of the text, expected a name or '{'\nattention\n         ^"},
      {"attention a-b { }", "1:12: found '-', expected '{'\nattention a-b { }\n           ^"},
      {"attention a {\n  mask windw(1, 2)\n}",
       "2:8: found 'windw', expected a mask; did you mean 'window'?\n  mask windw(1, 2)\n       ^"},
      {"attention a {\r\n  mask causal &\r\n}\r\n", "3:1: found '}', expected a mask\n}\n^"},
      {"attention a { } extra",
       "1:17: found 'extra', expected the end of the text\nattention a { } extra\n                ^"},
  });
}

TEST(ParseError, CaretStandsBelowTheCharacterAfterTabsAndWideBytes) {
  EXPECT_EQ(error_of("attention a {\n\tlengths trace(\"\xC3\xA4\xC3\xB6.csv\")\twrong\n}"),
            "2:26: found 'wrong', expected a clause or '}'; clauses are heads kv_heads head_dim value_dim dtype "
            "direction mask padding score softmax lengths batch\n"
            "\tlengths trace(\"\xC3\xA4\xC3\xB6.csv\")\twrong\n"
            "\t                       \t^");
}

TEST(ParseError, ShowsOnlyAPartOfALongLine) {
  const std::string blanks(500, ' ');
  EXPECT_EQ(error_of("attention a {" + blanks + "wrong" + blanks + "}"),
            "1:514: found 'wrong', expected a clause or '}'; clauses are heads kv_heads head_dim value_dim dtype "
            "direction mask padding score softmax lengths batch\n"
            "..." +
                std::string(70, ' ') + "wrong" + std::string(25, ' ') + "...\n" + std::string(73, ' ') + "^");
}

TEST(ParseError, OfMasks) {
  expect_inside({
      {"mask causl", "1:20: found 'causl', expected a mask; did you mean 'causal'?"},
      {"mask frobnicate",
       "1:20: found 'frobnicate', expected a mask; known are all none causal window dilated sink prefix global "
       "documents blocks bigbird bits where"},
      {"mask causal && sink(4)", "1:27: found '&&', expected '&'; masks are joined by & and |"},
      {"mask causal || sink(4)", "1:27: found '||', expected '|'; masks are joined by & and |"},
      {"mask !causal", "1:20: found '!', expected a mask; masks are negated by ~"},
      {"mask not causal", "1:20: found 'not', expected a mask; masks are negated by ~"},
      {"mask (causal | sink(4)", "1:38: found '}', expected '&', '|' or ')'"},
  });
}

TEST(ParseError, OfArguments) {
  expect_inside({
      {"mask window", "1:27: found '}', expected an integer or inf as 'left' of window(left, right)"},
      {"mask window(1)", "1:28: found ')', expected an integer or inf as 'right' of window(left, right)"},
      {"mask window(1, 2, 3)", "1:33: found '3', expected only the arguments of window(left, right)"},
      {"mask window(1 2)", "1:29: found '2', expected ',' or ')' in window(left, right)"},
      {"mask window(left=1, rihgt=2)",
       "1:35: found 'rihgt', expected an argument of window(left, right); did you mean 'right'?"},
      {"mask window(left=1, left=2)", "1:35: found 'left' twice, expected it once"},
      {"mask window(-inf, 0)",
       "1:28: found 'inf', expected an argument of window(left, right); write inf: both bounds are distances"},
      {"mask window(1.5, 0)", "1:27: found '1.5', expected an integer or inf as 'left' of window(left, right)"},
      {"mask sink(inf)", "1:25: found 'inf', expected an integer as 'n' of sink(n)"},
      {"mask sink(9223372036854775808)",
       "1:25: found '9223372036854775808', expected an integer of at most 63 bits; use a smaller number"},
      {"mask documents(segment)", "1:30: found 'segment', expected an @array as 'segment' of documents(@segment)"},
      {"mask causal(1)", "1:27: found '1', expected only the arguments of causal"},
      {"mask bigbird(64, 3)",
       "1:33: found ')', expected an @array as 'table' of bigbird(block, random, @table or seed=n or zero)"},
      {"mask blocks(64, @t, countd)",
       "1:35: found 'countd', expected an @array as 'indices' of blocks(size, @table or @offsets, @indices, "
       "optionally counted)"},
      {"mask bits(@)", "1:25: found '@' alone, expected an array's name after it"},
  });
}

TEST(ParseError, OfExpressions) {
  const std::string names = "b h q k q_len kv_len q_token k_token abs exp log sqrt tanh min max select clamp";
  expect_inside({
      {"mask where(kv_le > 4)", "1:26: found 'kv_le', expected a variable; did you mean 'kv_len'?"},
      {"mask where(slope > 4)",
       "1:26: found 'slope', expected a variable; known are " + names + " (arrays are written @slope)"},
      {"mask where(slct(q))", "1:26: found 'slct', expected a function; did you mean 'select'?"},
      {"mask where(q < k < 4)",
       "1:32: found '<', expected one comparison at a time; write a < b && b < c, or use parentheses"},
      {"mask where(s > 0)", "1:26: found 's', expected a variable of where(...); only score(...) knows the score s"},
      {"mask where(q < 4", "1:32: found '}', expected an operator or ')'"},
      {"mask where(min(q) < 4)", "1:31: found ')', expected ',' (min takes 2 arguments)"},
      {"mask where(abs(q, k) < 4)", "1:31: found ',', expected ')' (abs takes 1 argument)"},
      {"mask where(~q)", "1:26: found '~', expected an expression; write !a for a condition, a ^ -1 for the bits"},
      {"mask where(@t[q)", "1:30: found ')', expected an operator, ',' or ']'"},
      {"mask where()", "1:26: found ')', expected an expression"},
  });
}

TEST(ParseError, OfScores) {
  expect_inside({
      {"score softcap(30) scale(0.1)",
       "1:33: found 'scale' after 'softcap', expected the order in which the steps are applied: scale, softcap, "
       "alibi, bias, score"},
      {"score scale(1) scale(2)", "1:30: found 'scale' twice, expected it once; combine the two"},
      {"score", "1:21: found '}', expected a step of the score: scale, softcap, alibi, bias, score"},
      {"score scal(0.5)",
       "1:21: found 'scal', expected a step of the score: scale, softcap, alibi, bias, score; did you mean 'scale'?"},
      {"scale(0.5)", "1:15: found 'scale', expected a clause or '}'; write score scale(...)"},
      {"score scale(1e999)",
       "1:27: found '1e999', expected a number that a double holds; use one between 1e-308 and 1e308"},
      {"score scale(nan)", "1:27: found 'nan', expected a number as 'scale' of scale(number or default)"},
      {"dropout 0.1",
       "1:15: found 'dropout', which is not supported; remove it: attention is computed without dropout"},
      {"score scale(1) dropout(0.1)",
       "1:30: found 'dropout', which is not supported; remove it: attention is computed without dropout"},
  });
}

TEST(ParseError, OfOtherClauses) {
  expect_inside({
      {"heads 12 heads 13", "1:24: found 'heads' twice, expected it once; remove one"},
      {"head 12", "1:15: found 'head', expected a clause or '}'; did you mean 'heads'?"},
      {"heads twelve", "1:21: found 'twelve', expected the number of query heads"},
      {"heads 1.5", "1:21: found '1.5', expected the number of query heads"},
      {"dtype bf6", "1:21: found 'bf6', expected fp32, bf16, fp16; did you mean 'bf16'?"},
      {"direction backwards", "1:25: found 'backwards', expected forward, backward; did you mean 'backward'?"},
      {"padding additive", "1:32: found '}', expected a number as 'x' of additive(x)"},
      {"softmax sink_logit(x)", "1:34: found 'x', expected an @array as 'logits' of sink_logit(@logits)"},
      {"lengths lognormal(mean=1800, sigma=0.6)",
       "1:53: found ')', expected an integer as 'min' of lognormal(mean, sigma, min, max)"},
      {"lengths poisson(4)", "1:23: found 'poisson', expected fixed, uniform, lognormal, histogram or trace"},
      {"lengths unifrom(4, 5)",
       "1:23: found 'unifrom', expected fixed, uniform, lognormal, histogram or trace; did you mean 'uniform'?"},
      {"lengths histogram(512, 1024)", "1:36: found ',', expected ':' and a weight"},
  });
}

TEST(ParseError, OfCharacters) {
  expect_inside({
      {"score scale(.5)", "1:27: found '.', expected a number or a string; write 0.5, and \"file.csv\" in quotes"},
      {"score scale(5.)", "1:28: found a number that ends in '.', expected a digit after it"},
      {"score scale(5e)", "1:28: found a number without its exponent, expected digits after 'e'"},
      {"heads 12x", "1:23: found 'x' in a number, expected a digit or a blank"},
      {"heads 12; batch 2", "1:23: found ';', expected a clause; clauses need no separator"},
      {"mask \xE2\x80\xA6",
       "1:20: found '\xE2\x80\xA6', expected a word, a number, a \"string\", an @array or an operator; only strings "
       "and comments may hold other characters"},
      {std::string("mask \0", 6), "1:20: found byte 0x00, expected text; remove control characters"},
      {"mask \xFF", "1:20: found byte 0xFF, expected UTF-8; save the text as UTF-8"},
      {"# \xC0\x80", "1:17: found byte 0xC0, expected UTF-8; save the text as UTF-8"},
      {"lengths trace(\"lengths.csv)", "1:29: found a string without its end, expected '\"' on the same line"},
      {R"(lengths trace("C:\lengths"))",
       R"(1:32: found '\' in a string, expected '\"' or '\\' (write / between folders))"},
  });
}

TEST(ParseError, OfBytesThatAreNotUtf8NameTheFirst) {
  const std::vector<std::string> broken = {"\x80",
                                           "\xC3",
                                           "\xC1\x81",
                                           "\xE0\x80\x80",
                                           "\xED\xA0\x80",
                                           "\xF0\x80\x80\x80",
                                           "\xF4\x90\x80\x80",
                                           "\xF5\x80\x80\x80",
                                           "\xE2\x82",
                                           "\xC3("};
  for (const std::string& bytes : broken) {
    const std::string error = error_of("# " + bytes);
    EXPECT_EQ(error.substr(0, 16), "1:3: found byte ") << error;
  }
}

TEST(ParseError, OfDepthNamesTheLimit) {
  std::string chain = "q";
  for (int i = 0; i < 300; ++i) chain += " + q";
  const std::string error = error_of("attention a { mask where(" + chain + ") }");
  EXPECT_EQ(error.substr(0, error.find('\n')),
            "1:1048: found an expression of more than 256 levels, expected fewer; put the numbers into an @array and "
            "index it");
}

}  // namespace
}  // namespace harrier
