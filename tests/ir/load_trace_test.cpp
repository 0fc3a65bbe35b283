// Traces: CSV files of lengths, with or without a header.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "ir/error.h"
#include "ir/length_distribution.h"

namespace harrier {
namespace {

/// A folder of its own for each test, removed afterwards.
class LoadTrace : public testing::Test {
 protected:
  void SetUp() override {
    const auto* const info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) / (std::string("harrier_load_trace_") + info->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::vector<int64_t> load(const std::string& text) {
    std::ofstream(folder_ / "t.csv", std::ios::binary) << text;
    LengthDistribution lengths = TraceLength{.path = "t.csv"};
    load_trace(lengths, folder_.string());
    return std::get<TraceLength>(lengths).lengths;
  }

  /// The error's text after the folder's name.
  std::string error_of(const std::string& text) {
    try {
      load(text);
    } catch (const InvalidInput& error) {
      const std::string message = error.what();
      const std::size_t at = message.find("t.csv");
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
      return at == std::string::npos ? message : message.substr(at);
    }
    return "no error";
  }

  std::filesystem::path folder_;
};

using Lengths = std::vector<int64_t>;

TEST_F(LoadTrace, ReadsTheFirstColumnWithoutAHeader) {
  EXPECT_EQ(load("5\n7\n0\n"), (Lengths{5, 7, 0}));
  EXPECT_EQ(load("5,a\n7,b"), (Lengths{5, 7}));
}

TEST_F(LoadTrace, ReadsTheColumnNamedLength) {
  EXPECT_EQ(load("length\n5\n"), (Lengths{5}));
  EXPECT_EQ(load("page,length,id\nintro,5,1\nend,7,2\n"), (Lengths{5, 7}));
  EXPECT_EQ(load("page, Length\na,5\n"), (Lengths{5}));
}

TEST_F(LoadTrace, ReadsQuotesCarriageReturnsBlankLinesAndAByteOrderMark) {
  EXPECT_EQ(load("\xEF\xBB\xBFpage,\"length\"\r\n\"a, \"\"b\"\"\r\nc\", \"5\" \r\n\r\nd,7\r\n"), (Lengths{5, 7}));
}

TEST_F(LoadTrace, NamesFileLineAndValueOfABadRow) {
  EXPECT_EQ(error_of("5\nx\n"), "t.csv:2: found 'x', expected a length in 0..2147483647; correct or remove the row");
  EXPECT_EQ(error_of("length\n5\n\n-1\n"),
            "t.csv:4: found '-1', expected a length in 0..2147483647; correct or remove the row");
  for (const std::string value : {"2147483648", "99999999999999999999", "1.5", "5x", "+5", "0x5", ""}) {
    EXPECT_EQ(error_of("length,b\n" + value + ",1\n"),
              "t.csv:2: found '" + value + "', expected a length in 0..2147483647; correct or remove the row");
  }
  EXPECT_EQ(error_of("a,length\n5\n"), "t.csv:2: found 1 cells, expected a length in cell 2; complete the row");
  EXPECT_EQ(
      error_of("tokens\n5\n"),
      "t.csv:1: found 'tokens', expected a column named length or a number; name the column of the lengths 'length'");
  EXPECT_EQ(error_of("5\n\x01\xFF\n"),
            "t.csv:2: found bytes that are no text, expected a length in 0..2147483647; correct or remove the row");
}

TEST_F(LoadTrace, RefusesBrokenQuotesAndEmptyFiles) {
  EXPECT_EQ(error_of("length\n\"5"), "t.csv:2: found a quoted cell without its end, expected '\"'; close it");
  EXPECT_EQ(error_of("\"5\"6\n"),
            "t.csv:1: found text after a quoted cell, expected ','; double the quotes inside a cell");
  EXPECT_EQ(error_of(""), "t.csv\" holds 0 lengths, expected at least one; write one length a line");
  EXPECT_EQ(error_of("length\n"), "t.csv\" holds 0 lengths, expected at least one; write one length a line");
}

TEST_F(LoadTrace, RefusesFilesThatCannotBeRead) {
  for (const std::string path : {"missing.csv", "."}) {
    LengthDistribution lengths = TraceLength{.path = path};
    EXPECT_THROW(load_trace(lengths, folder_.string()), InvalidInput) << path;
  }
}

TEST_F(LoadTrace, TakesAnAbsolutePathAsItIs) {
  std::ofstream(folder_ / "t.csv") << "5\n";
  LengthDistribution lengths = TraceLength{.path = (folder_ / "t.csv").string()};
  load_trace(lengths, "/nowhere");
  EXPECT_EQ(std::get<TraceLength>(lengths).lengths, Lengths{5});
}

TEST_F(LoadTrace, LeavesOtherKindsAlone) {
  LengthDistribution lengths = FixedLength{7};
  load_trace(lengths, "/nowhere");
  EXPECT_EQ(lengths, LengthDistribution(FixedLength{7}));
}

TEST_F(LoadTrace, ReadsTheTraceOfRealDocuments) {
  LengthDistribution lengths = TraceLength{.path = "document_lengths.csv"};
  load_trace(lengths, HARRIER_TEST_DATA);
  const Lengths& read = std::get<TraceLength>(lengths).lengths;
  ASSERT_GT(read.size(), 100U);
  EXPECT_EQ(read[0], 666);
  EXPECT_EQ(read[1], 921);
}

}  // namespace
}  // namespace harrier
