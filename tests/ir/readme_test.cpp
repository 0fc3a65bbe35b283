// The page that teaches the language does not lie: its examples parse, verify and round-trip; its error is the real
// one.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "ir/error.h"
#include "ir/text.h"
#include "ir/verify.h"

namespace harrier {
namespace {

std::vector<std::string> code_blocks(const std::string& language) {
  std::ifstream file(std::string(HARRIER_SOURCE_DIR) + "/ir/README.md");
  std::stringstream stream;
  stream << file.rdbuf();
  const std::string page = stream.str();
  const std::string opening = "```" + language + "\n";
  std::vector<std::string> blocks;
  for (std::size_t at = page.find(opening); at != std::string::npos; at = page.find(opening, at)) {
    at += opening.size();
    blocks.push_back(page.substr(at, page.find("```", at) - at));
  }
  return blocks;
}

TEST(Readme, ExamplesParseVerifyAndRoundTrip) {
  const std::vector<std::string> examples = code_blocks("attn");
  ASSERT_EQ(examples.size(), 3U);
  for (const std::string& example : examples) {
    SCOPED_TRACE(example);
    const Workload workload = parse_workload(example);
    EXPECT_NO_THROW(verify(workload));
    EXPECT_EQ(parse_workload(print(workload)), workload);
  }
}

TEST(Readme, TheErrorIsTheRealOne) {
  const std::vector<std::string> errors = code_blocks("text");
  ASSERT_EQ(errors.size(), 1U);
  try {
    parse_workload("attention a {\n  mask    windw(256, 0)\n}");
    FAIL() << "the text was read";
  } catch (const InvalidInput& error) {
    EXPECT_EQ(std::string(error.what()) + "\n", errors[0]);
  }
}

}  // namespace
}  // namespace harrier
