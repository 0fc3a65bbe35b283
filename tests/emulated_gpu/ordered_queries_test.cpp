// The order in which deterministic kernels walk the query tiles of a column: each tile that the column has once,
// falling, with a turn that counts the columns before it. A turn too many or too few is a wait that never ends.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <random>

#include "codegen/cuda/kernels/backward_params.cuh"
#include "device.h"

namespace harrier::test {
namespace {

constexpr int kTileQ = 64;
constexpr int kTileK = 128;
constexpr int kIntervals = 3;
constexpr int kMostTiles = 64;  // of queries, of a column
constexpr int kVisits = kMostTiles + 1;

/// Interval i of query q: [begin + q / 7 * step, end + q / 7 * end_step), for queries of [first, limit).
struct Line {
  int begin, step, end, end_step, first, limit;
};

/// What a column gives, one number a tile: tile, whether it needs a mask, turn.
struct Visit {
  int tile, partial, turn;
  bool operator==(const Visit&) const = default;
};

std::string source(const char* queries) {
  return fmt::format(R"(
#include "codegen/cuda/kernels/ordered_queries.cuh"
namespace harrier {{
struct Config {{
  static constexpr int kTileQ = {};
  static constexpr int kTileK = {};
  static constexpr KeySourceKind kKeySource = KeySourceKind::{};
}};
struct Mask : NoMask {{
  static constexpr MaskKind kKind = MaskKind::kIntervals;
  static constexpr int kIntervals = {};
  static __device__ const int* line(const Position& at, int index) {{
    return static_cast<const int*>(at.arguments.arrays[0].data) + 6 * index;
  }}
  template <int kIndex>
  static __device__ __forceinline__ Interval interval(const Position& at, int query) {{
    const int* own = line(at, kIndex);
    return {{own[0] + query / 7 * own[1], own[2] + query / 7 * own[3]}};
  }}
  template <int kIndex>
  static __device__ __forceinline__ Interval queries(const Position& at) {{
    return {{line(at, kIndex)[4], line(at, kIndex)[5]}};
  }}
}};
}}
extern "C" __global__ void __launch_bounds__(32) walk(const __grid_constant__ harrier::BackwardParams params, int first,
                                                      int* visits) {{
  using namespace harrier;
  ColumnWork column{{}};
  column.key_begin = blockIdx.x * Config::kTileK;
  column.query_length = column.query_valid = params.sequences.query_length;
  column.key_length = column.key_valid = params.sequences.key_length;
  int* out = visits + blockIdx.x * {};
  const int lane = threadIdx.x;
  const int tiles = count_column<Config, Mask, OrderedQueries<Config, Mask>>(params.arguments, params.query_lists, column, 1, lane);
  if (lane == 0) out[0] = tiles;
  int at = 0;
  walk_column_in_order<Config, OrderedQueries<Config, Mask>>(params, column, first, tiles, lane,
                                                             [&](int, const OrderedEntry& entry) {{
    ++at;
    if (lane == 0) out[at] = (entry.turn << 16) | (entry.partial ? 1 << 15 : 0) | (entry.entry & 0x7fff);
  }});
}}
)",
                     kTileQ, kTileK, queries, kIntervals, kVisits);
}

/// What every column's walk gives from its `first`-th tile on.
std::vector<std::vector<Visit>> walk(const Module& module, const BackwardParams& params, int columns, int first) {
  const Buffer<int> visits(std::vector<int>(static_cast<std::size_t>(columns) * kVisits, 0));
  check(launch(module.kernel("walk"), {static_cast<unsigned>(columns)}, 32, 0, params, first, visits.data()));
  const std::vector<int> found = visits.download();
  std::vector<std::vector<Visit>> all;
  for (int column = 0; column < columns; ++column) {
    const int* own = found.data() + static_cast<std::ptrdiff_t>(column) * kVisits;
    all.emplace_back();
    for (int i = 1; i <= own[0] - first; ++i) {
      all.back().push_back({own[i] & 0x7fff, own[i] >> 15 & 1, own[i] >> 16});
    }
  }
  return all;
}

/// Walks from places within columns give what is left of the whole walks.
void expect_parts_of(const std::vector<std::vector<Visit>>& whole, const Module& module, const BackwardParams& params) {
  for (const int first : {1, 2, 7, 33}) {
    const auto parts = walk(module, params, static_cast<int>(whole.size()), first);
    for (std::size_t column = 0; column < whole.size(); ++column) {
      const auto skipped = std::min<std::ptrdiff_t>(first, std::ssize(whole[column]));
      EXPECT_EQ(parts[column], std::vector<Visit>(whole[column].begin() + skipped, whole[column].end()))
          << "column " << column << " from tile " << first;
    }
  }
}

int cases() { return std::getenv("HARRIER_TEST_THOROUGH") != nullptr ? 300 : 20; }

TEST(EmulatedOrderedQueries, OfIntervalsAreTheTilesThatTheyReachIntoWithTheirTurns) {
  const Context context;
  const Module module(source("kClosedForm"));
  for (int seed = 1; seed <= cases(); ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(static_cast<unsigned>(seed));
    const auto draw = [&](int low, int high) { return std::uniform_int_distribution(low, high)(random); };
    const int queries = draw(1, kMostTiles * kTileQ), keys = draw(1, 3000);
    const int columns = (keys + kTileK - 1) / kTileK, tiles = (queries + kTileQ - 1) / kTileQ;
    std::vector<Line> lines;
    for (int i = 0; i < kIntervals; ++i) {
      const int begin = draw(-keys, keys), first = draw(0, 2) == 0 ? draw(0, queries) : -1000;
      lines.push_back({begin, draw(0, 9), begin + draw(-5, keys / 2), draw(0, 9), first,
                       draw(0, 2) == 0 ? first + draw(0, queries) : 0x7fffffff});
    }
    const auto keys_of = [&](const Line& line, int query) {
      return Interval{line.begin + query / 7 * line.step, line.end + query / 7 * line.end_step};
    };
    const auto has = [&](int tile, int column) {
      return std::ranges::any_of(lines, [&](const Line& line) {
        const int first = std::max(tile * kTileQ, line.first);
        const int last = std::min({(tile + 1) * kTileQ, queries, line.limit}) - 1;
        if (first > last) return false;
        const int begin = std::max(keys_of(line, first).begin, 0), end = std::min(keys_of(line, last).end, keys);
        return column * kTileK < end && begin < (column + 1) * kTileK;
      });
    };
    const auto sees_all = [&](int tile, int column) {
      for (int query = tile * kTileQ; query < std::min((tile + 1) * kTileQ, queries); ++query) {
        for (int key = column * kTileK; key < (column + 1) * kTileK; ++key) {
          const bool seen = key < keys && std::ranges::any_of(
                                              lines,
                                              [&](const Line& line) {
                                                const Interval interval = keys_of(line, query);
                                                return query >= line.first && query < line.limit &&
                                                       interval.begin <= key && key < interval.end;
                                              });
          if (!seen) return false;
        }
      }
      return true;
    };

    const Buffer<Line> device_lines(lines);
    BackwardParams params{};
    params.heads_per_kv_head = 1;
    params.sequences.query_length = queries;
    params.sequences.key_length = keys;
    params.arguments.arrays[0] = {device_lines.data(), {}};
    const auto found = walk(module, params, columns, 0);
    std::vector<int> turns(static_cast<std::size_t>(tiles));
    for (int column = 0; column < columns; ++column) {
      std::vector<Visit> expected;
      for (int tile = tiles - 1; tile >= 0; --tile) {
        if (has(tile, column)) expected.push_back({tile, 0, turns[static_cast<std::size_t>(tile)]++});
      }
      std::vector<Visit> visits = found[static_cast<std::size_t>(column)];
      for (Visit& visit : visits) {
        EXPECT_TRUE(visit.partial == 1 || sees_all(visit.tile, column)) << visit.tile << " of column " << column;
        visit.partial = 0;
      }
      EXPECT_EQ(visits, expected) << "column " << column;
    }
    expect_parts_of(found, module, params);
  }
}

TEST(EmulatedOrderedQueries, OfListsAreBothKindsByTile) {
  const Context context;
  const Module module(source("kLists"));
  for (int seed = 1; seed <= cases(); ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(static_cast<unsigned>(seed));
    constexpr int kColumns = 5;
    std::vector<std::vector<Visit>> expected;
    std::vector<int> begin, end, partial, entries, turns;
    for (int column = 0; column < kColumns; ++column) {
      const auto one_in = 1 + random() % 4, partial_one_in = 1 + random() % 3;
      std::vector<Visit> listed;
      for (int tile = 0; tile < kMostTiles; ++tile) {
        if (random() % one_in != 0) continue;
        listed.push_back({tile, random() % partial_one_in == 0 ? 1 : 0, static_cast<int>(random() % 1000)});
      }
      begin.push_back(static_cast<int>(entries.size()));
      for (const int kind : {1, 0}) {
        for (const Visit& visit : listed) {
          if (visit.partial != kind) continue;
          entries.push_back(visit.tile | static_cast<int>(random() % 256 << 24));
          turns.push_back(visit.turn);
        }
      }
      end.push_back(static_cast<int>(entries.size()));
      partial.push_back(static_cast<int>(std::ranges::count(listed, 1, &Visit::partial)));
      std::ranges::reverse(listed);
      expected.push_back(listed);
    }
    entries.push_back(0);
    turns.push_back(0);
    const Buffer<int> column_begin(begin), column_end(end), partial_tiles(partial), all_entries(entries),
        entry_turns(turns);
    BackwardParams params{};
    params.heads_per_kv_head = 1;
    params.sequences.query_length = kMostTiles * kTileQ;
    params.sequences.key_length = kColumns * kTileK;
    params.query_lists = {column_begin.data(), column_end.data(), partial_tiles.data(), all_entries.data(), 0, 0};
    params.entry_turns = entry_turns.data();
    const auto found = walk(module, params, kColumns, 0);
    EXPECT_EQ(found, expected);
    expect_parts_of(found, module, params);
  }
}

}  // namespace
}  // namespace harrier::test
