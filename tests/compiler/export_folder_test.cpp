// A folder appears whole, replaces an earlier export, and touches nothing else.
#include "compiler/export/export_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "ir/error.h"
#include "support/temporary_folder.h"

namespace harrier {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class ExportFolderTest : public testing::Test {
 protected:
  static std::vector<ExportedFile> files(const std::string& text) {
    return {{.name = "a.c", .bytes = text},
            {.name = kManifestName, .bytes = R"({"files":["a.c"],"harrier_export":1})"}};
  }

  static std::string read(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }

  /// Names in a folder, hidden ones included.
  static std::vector<std::string> names(const fs::path& folder) {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path().filename().string());
    std::ranges::sort(found);
    return found;
  }

  static std::string refusal(const fs::path& folder) {
    try {
      write_export_folder(folder.string(), files("new"));
    } catch (const InvalidInput& error) {
      return error.what();
    }
    return "no error";
  }

  const test::TemporaryFolder root_;
};

TEST_F(ExportFolderTest, ANewFolderAppearsWithItsParents) {
  write_export_folder(root_ / "x/y/", files("text"));
  EXPECT_THAT(names(root_ / "x"), ElementsAre("y"));
  EXPECT_THAT(names(root_ / "x/y"), ElementsAre("a.c", kManifestName));
  EXPECT_EQ(read(root_ / "x/y/a.c"), "text");
}

TEST_F(ExportFolderTest, AnEarlierExportAndAnEmptyFolderAreReplaced) {
  fs::create_directories(root_ / "out");
  write_export_folder(root_ / "out", files("first"));
  write_export_folder(root_ / "out", files("second"));
  EXPECT_EQ(read(root_ / "out/a.c"), "second");
  EXPECT_THAT(names(root_.path()), ElementsAre("out")) << "nothing may be left beside it";
}

TEST_F(ExportFolderTest, FilesOfOthersAreNotTouched) {
  write_export_folder(root_ / "out", files("first"));
  std::ofstream(root_ / "out/notes.txt") << "mine";
  EXPECT_THAT(refusal(root_ / "out"), HasSubstr("holds notes.txt, which is no file of an earlier export"));
  EXPECT_EQ(read(root_ / "out/notes.txt"), "mine");
  EXPECT_EQ(read(root_ / "out/a.c"), "first");
  // A manifest of something else allows nothing.
  fs::create_directories(root_ / "other");
  std::ofstream(root_ / (std::string("other/") + kManifestName)) << R"({"files":["a.c"]})";
  EXPECT_THAT(refusal(root_ / "other"), HasSubstr("holds manifest.json"));
  std::ofstream(root_ / (std::string("other/") + kManifestName)) << "{";
  EXPECT_THAT(refusal(root_ / "other"), HasSubstr("holds manifest.json"));
}

TEST_F(ExportFolderTest, WhatCannotBeAFolderIsRefused) {
  std::ofstream(root_ / "file") << "x";
  EXPECT_THAT(refusal(root_ / "file"), HasSubstr("is a file, an export is a folder"));
  EXPECT_THAT(refusal(""), HasSubstr("has no name"));
  EXPECT_THAT(refusal("."), HasSubstr("is the current folder"));
  EXPECT_THAT(refusal(root_ / "file/below"), HasSubstr("cannot be"));
  EXPECT_THAT(names(root_.path()), ElementsAre("file"));
}

}  // namespace
}  // namespace harrier
