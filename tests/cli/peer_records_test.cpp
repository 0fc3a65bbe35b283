// Times of other systems, read and matched.
#include "cli/peer_records.h"

#include <gmock/gmock.h>

#include "cli_fixture.h"
#include "ir/error.h"

namespace harrier {
namespace {

using testing::HasSubstr;

class PeerRecordsTest : public CliTest {
 protected:
  std::vector<PeerRecord> read(const std::string& text) const { return read_peers(write_text("peers.json", text)); }

  std::string refusal(const std::string& text) const {
    try {
      read(text);
    } catch (const InvalidInput& error) {
      return error.what();
    }
    return "no error";
  }
};

TEST_F(PeerRecordsTest, TheFastestOnThisDeviceIsTheBest) {
  const std::vector<PeerRecord> records = read(R"([
    {"workload": "a", "system": "flex", "ms": 2.0, "device": "H100", "direction": "forward", "tflops": 3},
    {"workload": "a", "system": "cudnn", "ms": 1.0, "device": "H100"},
    {"workload": "a", "system": "cudnn", "ms": 2.0, "device": "H100"},
    {"workload": "a", "system": "cudnn", "ms": 0.1, "device": "H100", "direction": "backward"},
    {"workload": "a", "system": "other", "ms": 0.1, "device": "B200"},
    {"workload": "a", "system": "harrier_default", "ms": 0.1, "device": "H100"},
    {"workload": "b", "system": "refused", "ms": null},
    {"workload": "c", "system": "anywhere", "ms": 0.5}])");
  const std::optional<PeerTime> best = best_peer(records, "a", Direction::kForward, "H100");
  ASSERT_TRUE(best);
  EXPECT_EQ(best->system, "cudnn");
  EXPECT_DOUBLE_EQ(best->us, 1500);  // of both rounds
  EXPECT_DOUBLE_EQ(best_peer(records, "a", Direction::kBackward, "H100")->us, 100);
  EXPECT_FALSE(best_peer(records, "c", Direction::kBackward, "H100"));
  EXPECT_EQ(best_peer(records, "a", Direction::kForward, "B200")->system, "other");
  EXPECT_FALSE(best_peer(records, "b", Direction::kForward, "H100"));
  EXPECT_FALSE(best_peer(records, "unknown", Direction::kForward, "H100"));
  EXPECT_EQ(best_peer(records, "c", Direction::kForward, "H100")->us, 500);
}

TEST_F(PeerRecordsTest, TheRepositorysOwnResultsAreRead) {
  const std::vector<PeerRecord> records = read_peers(HARRIER_SOURCE_DIR "/bench/results/h100.json");
  ASSERT_FALSE(records.empty());
  EXPECT_TRUE(best_peer(records, records.front().workload, records.front().direction, records.front().device));
}

TEST_F(PeerRecordsTest, BadFilesAreRefusedInOneLine) {
  EXPECT_THAT(refusal("{"), HasSubstr("write a list of rows like {\"workload\": \"bigbird\""));
  EXPECT_THAT(refusal(R"([{"system": "flex", "ms": 1}])"), HasSubstr("workload"));
  EXPECT_THAT(refusal("[1]"), HasSubstr("write a list of rows"));
  EXPECT_THAT(refusal(R"([{"workload": "a", "system": "flex", "ms": -1}])"), HasSubstr("must be above 0"));
}

}  // namespace
}  // namespace harrier
