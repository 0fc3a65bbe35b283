// Code is loaded only from folders that nobody else can write to.
#include "store/folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "fake_artifacts.h"
#include "processes.h"
#include "store/make_once.h"
#include "watched_store.h"

namespace harrier {
namespace {

using test::fake_artifact;
using test::key_of;
using testing::ElementsAre;
using testing::HasSubstr;

/// Everything works, without a cache and with this warning.
void expect_absent(const std::string& folder, const std::string& why) {
  const test::WatchedStore watched(folder);
  EXPECT_EQ(watched.store->state(), StoreState::kAbsent);
  EXPECT_FALSE(put_artifact(*watched.store, fake_artifact(1)));
  EXPECT_FALSE(find_artifact(*watched.store, key_of(fake_artifact(1))));
  const MadeArtifact made = make_once(*watched.store, key_of(fake_artifact(1)), [] { return fake_artifact(1); });
  EXPECT_EQ(made.artifact, fake_artifact(1));
  EXPECT_THAT(watched.warnings, ElementsAre(HasSubstr(why)));
}

TEST(Folder, IsMadeForItsOwnerAlone) {
  const test::TemporaryFolder folder;
  const std::string cache = folder / "a/b/cache";
  const test::WatchedStore watched(cache + "/");
  EXPECT_EQ(watched.store->state(), StoreState::kReadWrite);
  struct stat facts{};
  ASSERT_EQ(stat(cache.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0700);
  EXPECT_EQ(watched.store->path(), cache + "/harrier.db");
}

TEST(Folder, ThatOthersCanWriteToIsRefused) {
  const test::TemporaryFolder folder;
  for (const mode_t mode : {0770, 0707, 0777}) {
    ASSERT_EQ(chmod(folder.path().c_str(), mode), 0);
    expect_absent(folder.path(), "can be written by others");
  }
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  EXPECT_EQ(test::WatchedStore(folder.path()).store->state(), StoreState::kReadWrite);
}

TEST(Folder, ThatIsALinkOrAFileIsRefused) {
  const test::TemporaryFolder folder;
  std::filesystem::create_directory(folder / "real");
  std::filesystem::create_symlink(folder / "real", folder / "link");
  expect_absent(folder / "link", "is a symbolic link");
  std::ofstream(folder / "file") << "x";
  expect_absent(folder / "file", "is no folder");
  expect_absent(folder / "file/below", "cannot be");
}

TEST(Folder, AFileThatOthersCanWriteToIsRefused) {
  const test::TemporaryFolder folder;
  {
    const test::WatchedStore made(folder.path());
  }
  ASSERT_EQ(chmod((folder / "harrier.db").c_str(), 0666), 0);
  expect_absent(folder.path(), "others may plant code");
}

TEST(Folder, OfSomebodyElseIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  const test::TemporaryFolder folder;
  constexpr uid_t kSomebody = 65534;
  ASSERT_EQ(chown(folder.path().c_str(), kSomebody, kSomebody), 0);
  expect_absent(folder.path(), "belongs to user 65534");
}

TEST(Folder, ThatCannotBeWrittenIsRead) {
  const test::TemporaryFolder folder;
  const std::string cache = folder / "cache";
  {
    const test::WatchedStore watched(cache);
    put_artifact(*watched.store, fake_artifact(1));
  }
  constexpr uid_t kSomebody = 65534;
  if (geteuid() == 0) {
    // Root may write everywhere, so somebody else looks.
    ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
    for (const char* name : {"cache", "cache/harrier.db"}) {
      ASSERT_EQ(chown((folder / name).c_str(), kSomebody, kSomebody), 0);
    }
  }
  ASSERT_EQ(chmod(cache.c_str(), 0500), 0);
  const pid_t child = test::start_process([&] {
    if (geteuid() == 0 && seteuid(kSomebody) != 0) return 1;
    const test::WatchedStore watched(cache);
    if (watched.store->state() != StoreState::kReadOnly) return 2;
    if (find_artifact(*watched.store, key_of(fake_artifact(1))) != fake_artifact(1)) return 3;
    if (put_artifact(*watched.store, fake_artifact(2))) return 4;
    if (make_once(*watched.store, key_of(fake_artifact(2)), [] { return fake_artifact(2); }).was_found) return 5;
    return watched.warnings.size() == 1 && watched.warnings[0].find("is only read") != std::string::npos ? 0 : 6;
  });
  EXPECT_EQ(test::wait_for(child), 0);
  ASSERT_EQ(chmod(cache.c_str(), 0700), 0);
}

TEST(Folder, IsReadBesideAWriterWhereThatIsAskedFor) {
  const test::TemporaryFolder folder;
  const test::WatchedStore writer(folder.path());
  put_artifact(*writer.store, fake_artifact(1));
  const test::WatchedStore reader(folder.path(), {.read_only = true});
  EXPECT_EQ(reader.store->state(), StoreState::kReadOnly);
  EXPECT_EQ(find_artifact(*reader.store, key_of(fake_artifact(1))), fake_artifact(1));
  put_artifact(*writer.store, fake_artifact(2));
  EXPECT_EQ(find_artifact(*reader.store, key_of(fake_artifact(2))), fake_artifact(2));
  EXPECT_FALSE(put_artifact(*reader.store, fake_artifact(3)));
  const test::WatchedStore nowhere(folder / "none", {.read_only = true});
  EXPECT_EQ(nowhere.store->state(), StoreState::kAbsent);
  EXPECT_FALSE(std::filesystem::exists(folder / "none")) << "reading makes nothing";
}

TEST(Folder, NetworkFileSystemsAreKnown) {
  for (const int64_t type : {int64_t{0x6969}, int64_t{0xFF534D42}, int64_t{static_cast<int32_t>(0xFF534D42)},
                             int64_t{0x0BD00BD0}, int64_t{0x65735546}}) {
    EXPECT_TRUE(is_network_file_system(type)) << type;
  }
  for (const int64_t type : {0xEF53, 0x58465342, 0x01021994, 0x794C7630}) EXPECT_FALSE(is_network_file_system(type));
}

TEST(Folder, IsNamedByTheEnvironment) {
  const test::TemporaryFolder folder;
  const pid_t child = test::start_process([&] {
    setenv("HARRIER_CACHE_DIR", "/named", 1);
    if (default_store_folder() != "/named") return 1;
    unsetenv("HARRIER_CACHE_DIR");
    setenv("XDG_CACHE_HOME", folder.path().c_str(), 1);
    if (default_store_folder() != folder / "harrier") return 2;
    setenv("XDG_CACHE_HOME", "relative paths do not count", 1);
    setenv("HOME", folder.path().c_str(), 1);
    return default_store_folder() == folder / ".cache/harrier" ? 0 : 3;
  });
  EXPECT_EQ(test::wait_for(child), 0);
}

}  // namespace
}  // namespace harrier
