#include "compiler/passes/classify_tiles.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "compiler/passes/lower_pattern.h"
#include "compiler/passes/mask_intervals.h"
#include "ir/error.h"
#include "ir/match.h"

namespace harrier {
namespace {

constexpr int32_t kLargestTileCount = 255;
constexpr size_t kExpectedRuns = 6;

/// Multiples of the tile size; a shift where it is a power of two, for divisions are most of the work of a short row.
class TileGrid {
 public:
  explicit TileGrid(int64_t size)
      : size_(size),
        shift_(std::has_single_bit(static_cast<uint64_t>(size)) ? std::countr_zero(static_cast<uint64_t>(size)) : -1) {}
  int64_t size() const { return size_; }
  int64_t floor(int64_t key) const { return shift_ >= 0 ? key >> shift_ << shift_ : key / size_ * size_; }
  int64_t ceil(int64_t key) const { return floor(key + size_ - 1); }

 private:
  int64_t size_;
  int shift_;
};

/// Keys of one row that padding treats alike.
struct Zone {
  int64_t begin;
  int64_t end;
  float score_add;
  uint32_t count_only;
};

/// Appends the runs of one row.
class RowWriter {
 public:
  RowWriter(const BoundPattern& bound, const TileGrid& keys, const QueryRange& row, std::vector<KeyRun>& runs)
      : bound_(bound), keys_(keys), row_(row), runs_(runs), first_run_(runs.size()) {}

  void write(const IntervalSet& intervals, const Zone& zone) {
    for (const CountedInterval& interval : intervals) {
      const int64_t begin = std::max(interval.begin, zone.begin);
      const int64_t end = std::min(interval.end, zone.end);
      if (begin >= end) continue;
      if (interval.high == kCountOverflow) refuse_overflow(begin, end);
      const int64_t first = std::max(keys_.floor(begin), zone.begin);
      const int64_t last = std::min(keys_.ceil(end), zone.end);
      if (interval.low != interval.high) {
        write_partial(first, last, zone);
        continue;
      }
      const int64_t full_begin = begin == first ? begin : std::min(keys_.ceil(begin), zone.end);
      const int64_t full_end = end == last ? end : std::max(keys_.floor(end), zone.begin);
      if (full_begin >= full_end) {
        write_partial(first, last, zone);
        continue;
      }
      write_partial(first, full_begin, zone);
      write_full(full_begin, full_end, interval.high, zone);
      write_partial(full_end, last, zone);
    }
  }

 private:
  [[noreturn]] void refuse_overflow(int64_t begin, int64_t end) const {
    throw InvalidInput(fmt::format(
        "keys {} to {} may count {} times or more for query {} of batch row {}, the limit is {}: & multiplies the "
        "counts of block tables; use smaller ones",
        begin, end - 1, kCountOverflow, row_.q_begin, row_.batch, kCountOverflow - 1));
  }

  void write_full(int64_t begin, int64_t end, int32_t count, const Zone& zone) {
    append_run(begin, end, count, 0, zone);
  }

  /// Tiles [begin, end), but for the first where an earlier interval ended in it too.
  void write_partial(int64_t begin, int64_t end, const Zone& zone) {
    if (runs_.size() > first_run_) begin = std::max(begin, runs_.back().end);
    if (begin >= end) return;
    if (bound_.tables.empty()) {
      append_run(begin, end, 0, 0, zone);
      return;
    }
    while (begin < end) {
      const int64_t tile_end = std::min(keys_.floor(begin) + keys_.size(), end);
      append_run(begin, tile_end, 0, table_counts(begin, tile_end), zone);
      begin = tile_end;
    }
  }

  uint32_t table_counts(int64_t begin, int64_t end) const {
    HARRIER_CHECK(bound_.tables.size() <= kMaxTableSlots, "more block tables than a key run can carry the counts of");
    uint32_t packed = 0;
    for (size_t slot = 0; slot < bound_.tables.size(); ++slot) {
      const BlockLists& lists = bound_.tables[slot];
      HARRIER_CHECK(row_.q_begin / lists.size == (row_.q_end - 1) / lists.size,
                    "the queries of a partial tile span several row blocks of a block table");
      HARRIER_CHECK(begin / lists.size == (end - 1) / lists.size,
                    "the keys of a partial tile span several key blocks of a block table");
      const int32_t count = block_count(lists, row_.batch, row_.head, row_.q_begin, begin);
      HARRIER_CHECK(count <= kLargestTileCount, "binding let a count pass that a key run cannot carry");
      packed |= static_cast<uint32_t>(count) << (8 * slot);
    }
    return packed;
  }

  /// Built in place: a run that is put together elsewhere and copied stalls on its own stores, which is half of a short
  /// row's time.
  void append_run(int64_t begin, int64_t end, int32_t count, uint32_t counts, const Zone& zone) {
    if (runs_.size() > first_run_) {
      KeyRun& last = runs_.back();
      if (last.end == begin && last.count == count && last.table_counts == counts && last.score_add == zone.score_add &&
          last.count_only == zone.count_only) {
        last.end = end;
        return;
      }
    }
    runs_.emplace_back(begin, end, count, counts, zone.score_add, zone.count_only);
  }

  const BoundPattern& bound_;
  const TileGrid& keys_;
  const QueryRange& row_;
  std::vector<KeyRun>& runs_;
  size_t first_run_;
};

/// What becomes of keys past the valid length: attended with less score, only counted as shown, or left out.
std::vector<Zone> zones_of(const Pattern& pattern, const Sequence& sequence) {
  std::vector<Zone> zones = {{.begin = 0, .end = sequence.key_valid, .score_add = 0.0F, .count_only = 0}};
  Zone padding{.begin = sequence.key_valid, .end = sequence.key_length, .score_add = 0.0F, .count_only = 0};
  if (const auto* additive = std::get_if<PaddingAdditive>(&pattern.padding)) {
    padding.score_add = static_cast<float>(additive->value);
    zones.push_back(padding);
  } else if (std::holds_alternative<SoftmaxPrunedAsZero>(pattern.softmax)) {
    padding.count_only = 1;
    zones.push_back(padding);
  }
  return zones;
}

/// True for masks of windows alone: moving queries and keys together changes nothing, and what the start of the keys
/// cuts off shows, for the first run starts there. (Of a dilated or a negated window it may not: their first visible
/// key can lie further on.)
bool is_made_of_windows(const Mask& mask) {
  const auto all_are = [](const std::vector<Mask>& operands) {
    return std::ranges::all_of(operands, is_made_of_windows);
  };
  return match(
      mask.node, [](const Causal&) { return true; }, [](const Window&) { return true; },
      [&](const And& node) { return all_are(node.operands); }, [&](const Or& node) { return all_are(node.operands); },
      [](const auto&) { return false; });
}

/// Appends the last row's runs, moved by `distance` keys, where that is the next row: a row of windows repeats from
/// tile to tile for as long as neither row meets an end of the keys. Gives false, and appends nothing, where it may not
/// be.
bool repeat_row(TileMap& map, int64_t distance, int64_t key_end) {
  const auto rows = std::ssize(map.run_offsets) - 1;
  const int64_t first = map.run_offsets[rows - 1];
  const int64_t end = map.run_offsets[rows];
  if (first == end || map.runs[first].begin == 0) return false;
  if (map.runs[end - 1].end + distance >= key_end) return false;
  for (int64_t i = first; i < end; ++i) {
    const KeyRun& run = map.runs[i];
    map.runs.emplace_back(run.begin + distance, run.end + distance, run.count, run.table_counts, run.score_add,
                          run.count_only);
  }
  map.run_offsets.push_back(std::ssize(map.runs));
  return true;
}

}  // namespace

TileMap classify_tiles(const Pattern& pattern, const Shape& shape, const BoundPattern& bound, const Geometry& geometry,
                       int64_t tile_q, int64_t tile_k) {
  HARRIER_CHECK(std::min(tile_q, tile_k) >= 1, "a tile has no queries or no keys");
  TileMap map{.tile_q = tile_q,
              .tile_k = tile_k,
              .heads = depends_on_head(pattern.mask, bound) ? shape.heads : 1,
              .first_row = {0},
              .run_offsets = {0},
              .runs = {}};
  for (const Sequence& sequence : geometry.sequences) {
    const int64_t row_tiles = (sequence.query_valid + tile_q - 1) / tile_q;
    map.first_row.push_back(map.first_row.back() + map.heads * row_tiles);
  }
  const auto rows = static_cast<size_t>(map.first_row.back());
  map.run_offsets.reserve(rows + 1);
  // Rows of interval patterns have a few runs. Pages that are not needed are never touched, and growing step by step
  // would touch every page twice.
  map.runs.reserve(rows * kExpectedRuns);

  const TileGrid key_grid(tile_k);
  MaskIntervals intervals(pattern.mask, bound, geometry);
  for (int64_t batch = 0; batch < std::ssize(geometry.sequences); ++batch) {
    const Sequence& sequence = geometry.sequences[batch];
    const std::vector<Zone> zones = zones_of(pattern, sequence);
    const bool may_repeat = zones.size() == 1 && tile_q % tile_k == 0 && is_made_of_windows(pattern.mask);
    for (int64_t head = 0; head < map.heads; ++head) {
      for (int64_t begin = 0; begin < sequence.query_valid; begin += tile_q) {
        const bool is_whole = begin + tile_q <= sequence.query_valid;
        if (may_repeat && begin > 0 && is_whole && repeat_row(map, tile_q, sequence.key_valid)) continue;
        const QueryRange row{.batch = batch,
                             .head = head,
                             .q_begin = begin,
                             .q_end = std::min(begin + tile_q, sequence.query_valid),
                             .leaf_keys = tile_k};
        const IntervalSet& visible = intervals.over(row);
        RowWriter writer(bound, key_grid, row, map.runs);
        for (const Zone& zone : zones) writer.write(visible, zone);
        map.run_offsets.push_back(std::ssize(map.runs));
      }
    }
  }
  return map;
}

TileCounts count_tiles(const TileMap& map, const Geometry& geometry, int64_t heads) {
  const int64_t copies = map.heads == 1 ? heads : 1;
  TileCounts counts;
  for (int64_t batch = 0; batch < std::ssize(geometry.sequences); ++batch) {
    const int64_t key_tiles = (geometry.sequences[batch].key_length + map.tile_k - 1) / map.tile_k;
    for (int64_t row = map.first_row[batch]; row < map.first_row[batch + 1]; ++row) {
      int64_t shown = 0;
      int64_t partial = 0;
      int64_t next_tile = 0;  // tiles before this one are counted
      bool last_is_full = false;
      for (int64_t i = map.run_offsets[row]; i < map.run_offsets[row + 1]; ++i) {
        const KeyRun& run = map.runs[i];
        const bool is_full = run.count > 0;
        const int64_t first = run.begin / map.tile_k;
        const int64_t end = (run.end + map.tile_k - 1) / map.tile_k;
        // Padding may cut a tile in two runs; it is partial when one of them is.
        if (first < next_tile && last_is_full && !is_full) ++partial;
        const int64_t added = end - std::max(first, next_tile);
        shown += added;
        if (!is_full) partial += added;
        last_is_full = is_full && (added > 0 || last_is_full);
        next_tile = end;
      }
      counts.empty += (key_tiles - shown) * copies;
      counts.full += (shown - partial) * copies;
      counts.partial += partial * copies;
    }
  }
  return counts;
}

}  // namespace harrier
