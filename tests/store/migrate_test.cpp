// Older files become newer ones in one step or stay as they were.
#include "store/migrate.h"

#include <gtest/gtest.h>

#include <array>

#include "watched_store.h"

namespace harrier {
namespace {

using sqlite::Database;
using sqlite::OpenMode;

TEST(Migrate, RunsWhatIsMissingInOrder) {
  const test::TemporaryFolder folder;
  Database database(folder / "a.db", OpenMode::kReadWrite);
  const std::array<std::string_view, 1> first = {"CREATE TABLE one(x)"};
  migrate(database, first);
  EXPECT_EQ(database.integer("PRAGMA user_version"), 1);
  EXPECT_EQ(database.integer("PRAGMA application_id"), kStoreApplicationId);
  database.run("INSERT INTO one VALUES (7)");
  const std::array<std::string_view, 3> all = {first[0], "ALTER TABLE one ADD y DEFAULT 5", "CREATE TABLE three(x)"};
  migrate(database, all);
  EXPECT_EQ(database.integer("PRAGMA user_version"), 3);
  EXPECT_EQ(database.integer("SELECT x + y FROM one"), 12) << "rows stay";
  migrate(database, all);
  migrate(database, first);
  EXPECT_EQ(database.integer("PRAGMA user_version"), 3) << "never back";
}

TEST(Migrate, AStepThatFailsLeavesNoTrace) {
  const test::TemporaryFolder folder;
  Database database(folder / "a.db", OpenMode::kReadWrite);
  const std::array<std::string_view, 2> scripts = {"CREATE TABLE one(x)", "CREATE TABLE two(x); nonsense"};
  EXPECT_THROW(migrate(database, scripts), sqlite::SqliteError);
  EXPECT_EQ(database.integer("PRAGMA user_version"), 0);
  EXPECT_EQ(database.integer("SELECT count(*) FROM sqlite_schema"), 0);
}

TEST(Migrate, OurScriptsLeadToOurVersion) {
  const test::TemporaryFolder folder;
  Database database(folder / "a.db", OpenMode::kReadWrite);
  migrate(database, store_migrations());
  EXPECT_EQ(database.integer("PRAGMA user_version"), kStoreVersion);
  EXPECT_EQ(database.text("PRAGMA integrity_check"), "ok");
}

}  // namespace
}  // namespace harrier
