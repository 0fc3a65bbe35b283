#include "compiler/bind_blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "compiler/bigbird_table.h"
#include "ir/ceil_div.h"
#include "ir/match.h"

namespace harrier {
namespace {

// A key run carries a count in 8 bits.
constexpr int64_t kMaxCount = 255;

/// Appends rows, each a multiset of blocks in any order.
class ListBuilder {
 public:
  ListBuilder(BlockLists& lists, bool counted) : lists_(lists), counted_(counted) { lists_.offsets.push_back(0); }

  void add(int64_t block, int64_t count = 1) { row_.emplace_back(static_cast<int32_t>(block), count); }

  /// Sorts and merges what was added; `where` names the row in the error that a count past kMaxCount raises.
  template <typename Where>
  void end_row(Where&& where) {
    std::ranges::sort(row_);
    for (size_t i = 0; i < row_.size();) {
      const int32_t block = row_[i].first;
      int64_t count = 0;
      for (; i < row_.size() && row_[i].first == block; ++i) count = std::min(count + row_[i].second, kMaxCount + 1);
      if (counted_ && count > kMaxCount) {
        throw InvalidInput(fmt::format("{} counts key block {} more than {} times; count it at most that often",
                                       where(), block, kMaxCount));
      }
      lists_.blocks.push_back(block);
      lists_.counts.push_back(counted_ ? static_cast<int32_t>(count) : 1);
    }
    row_.clear();
    lists_.offsets.push_back(static_cast<int64_t>(lists_.blocks.size()));
  }

 private:
  BlockLists& lists_;
  bool counted_;
  std::vector<std::pair<int32_t, int64_t>> row_;
};

BlockLists lists_from_table(const BindState& state, const Blocks& blocks) {
  const std::string& name = blocks.table;
  const ArrayView& view = view_of(state, name);
  check_int_type(name, view);
  const int64_t rows = ceil_div(state.max_query_length, blocks.size);
  const int64_t columns = ceil_div(state.max_key_length, blocks.size);
  const size_t rank = view.shape.size();
  std::vector<int64_t> shape(rank < 4 ? 4 - rank : 0, 1);
  shape.insert(shape.end(), view.shape.begin(), view.shape.end());
  const bool fits = rank >= 2 && rank <= 4 && (shape[0] == 1 || shape[0] == state.batch) &&
                    (shape[1] == 1 || shape[1] == state.shape.heads) && shape[2] >= rows && shape[3] >= columns;
  if (!fits) {
    throw InvalidInput(
        fmt::format("@{} (block table) has shape {}; expected [batch {} or 1, heads {} or 1, {} row blocks, {} key "
                    "blocks] or larger blocks dimensions (leading ones may be left out)",
                    name, print_shape(view.shape), state.batch, state.shape.heads, rows, columns));
  }
  BlockLists lists{.size = blocks.size, .batches = shape[0], .heads = shape[1], .row_blocks = rows};
  ListBuilder builder(lists, blocks.counted);
  visit_ints(view, [&](auto element) {
    for (int64_t table = 0; table < shape[0] * shape[1]; ++table) {
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t start = (table * shape[2] + row) * shape[3];
        for (int64_t column = 0; column < columns; ++column) {
          const int64_t count = element(start + column);
          if (count < 0) {
            throw InvalidInput(fmt::format("@{}{} is {}; expected a count of 0 or more", name,
                                           print_place(view.shape, start + column), count));
          }
          if (count > 0) builder.add(column, std::min(count, kMaxCount + 1));
        }
        builder.end_row([&] { return fmt::format("@{}, row block {},", name, row); });
      }
    }
  });
  return lists;
}

BlockLists lists_from_rows(const BindState& state, const Blocks& blocks) {
  const ArrayView& offsets = view_of(state, blocks.offsets);
  const ArrayView& indices = view_of(state, blocks.indices);
  check_int_type(blocks.offsets, offsets);
  check_int_type(blocks.indices, indices);
  const int64_t rows = ceil_div(state.max_query_length, blocks.size);
  const int64_t columns = ceil_div(state.max_key_length, blocks.size);
  const size_t rank = offsets.shape.size();
  const int64_t heads = rank == 2 ? offsets.shape[0] : 1;
  if (rank < 1 || rank > 2 || (heads != 1 && heads != state.shape.heads) || offsets.shape.back() < rows + 1) {
    throw InvalidInput(
        fmt::format("@{} (block list offsets) has shape {}; expected [heads {} or 1, {} (row blocks + "
                    "1) or more]",
                    blocks.offsets, print_shape(offsets.shape), state.shape.heads, rows + 1));
  }
  if (indices.shape.size() != 1) {
    throw InvalidInput(fmt::format("@{} (block list indices) has shape {}; expected one dimension", blocks.indices,
                                   print_shape(indices.shape)));
  }
  const int64_t width = offsets.shape.back();
  const int64_t count = indices.shape[0];
  // Lists for longer sequences than these may name blocks that these do not have.
  const int64_t limit = std::max(columns, width - 1);
  BlockLists lists{.size = blocks.size, .batches = 1, .heads = heads, .row_blocks = rows};
  ListBuilder builder(lists, blocks.counted);
  const auto read = [&](auto offset, auto index) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t row = 0; row < width - 1; ++row) {
        const int64_t place = head * width + row;
        const int64_t begin = offset(place);
        const int64_t end = offset(place + 1);
        if (begin < 0 || begin > end || end > count) {
          throw InvalidInput(
              fmt::format("@{}{} is {} and the next is {}; expected offsets that rise from 0 to at most {}, the number "
                          "of indices",
                          blocks.offsets, print_place(offsets.shape, place), begin, end, count));
        }
        for (int64_t i = begin; i < end; ++i) {
          const int64_t block = index(i);
          if (block < 0 || block >= limit) {
            throw InvalidInput(fmt::format("@{}[{}] is {}, expected 0 to {}; name key blocks of {} keys",
                                           blocks.indices, i, block, limit - 1, blocks.size));
          }
          if (row < rows && block < columns) builder.add(block);
        }
        if (row < rows) builder.end_row([&] { return fmt::format("@{}, row block {},", blocks.indices, row); });
      }
    }
  };
  visit_ints(offsets, [&](auto offset) { visit_ints(indices, [&](auto index) { read(offset, index); }); });
  return lists;
}

/// The random blocks of all rows of sequences with `blocks` blocks: [heads, rows, random], row i - 1 for query block i.
struct RandomBlocks {
  std::string name;  // of the array; empty when drawn
  int64_t heads = 1;
  int64_t rows = 0;
  std::vector<int32_t> entries;
};

RandomBlocks random_blocks_from_array(const BindState& state, const BigBird& bigbird, const std::string& name,
                                      int64_t most_blocks) {
  const ArrayView& view = view_of(state, name);
  const size_t rank = view.shape.size();
  const int64_t heads = rank == 3 ? view.shape[0] : 1;
  const int64_t needed = std::max<int64_t>(0, most_blocks - 2);
  if (rank < 2 || rank > 3 || (heads != 1 && heads != state.shape.heads) || view.shape[rank - 2] < needed ||
      view.shape[rank - 1] != bigbird.random) {
    throw InvalidInput(
        fmt::format("@{} (random blocks) has shape {}; expected [heads {} or 1, {} (row blocks - 2) or "
                    "more, random {}]",
                    name, print_shape(view.shape), state.shape.heads, needed, bigbird.random));
  }
  check_int_type(name, view);
  RandomBlocks blocks{.name = name, .heads = heads, .rows = needed, .entries = {}};
  visit_ints(view, [&](auto element) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t i = 0; i < needed * bigbird.random; ++i) {
        // Rows are checked against the blocks of each sequence; what passes int32 stays out of range here.
        const int64_t block = element(head * view.shape[rank - 2] * bigbird.random + i);
        blocks.entries.push_back(
            static_cast<int32_t>(std::clamp<int64_t>(block, -1, std::numeric_limits<int32_t>::max())));
      }
    }
  });
  return blocks;
}

RandomBlocks draw_random_blocks(const BindState& state, const BigBird& bigbird, int64_t seed, int64_t blocks) {
  return {
      .name = {},
      .heads = state.shape.heads,
      .rows = std::max<int64_t>(0, blocks - 2),
      .entries = draw_bigbird_table(seed, blocks * bigbird.block, bigbird.block, state.shape.heads, bigbird.random)};
}

void add_bigbird_row(ListBuilder& builder, const RandomBlocks& random, int64_t random_count, int64_t head, int64_t row,
                     int64_t blocks) {
  if (row == 0 || row == blocks - 1) {
    for (int64_t block = 0; block < blocks; ++block) builder.add(block);
    return;
  }
  for (const int64_t block : std::set<int64_t>{0, row - 1, row, row + 1, blocks - 1}) builder.add(block);
  const int64_t table = head % random.heads;
  const int64_t start = (table * random.rows + row - 1) * random_count;
  for (int64_t i = 0; i < random_count; ++i) {
    const int64_t block = random.entries[static_cast<size_t>(start + i)];
    if (block < 0 || block >= blocks) {
      throw InvalidInput(
          fmt::format("@{}[{}, {}, {}] is {}, expected 0 to {}: a sequence has {} blocks; list only those", random.name,
                      table, row - 1, i, block, blocks - 1, blocks));
    }
    builder.add(block);
  }
}

}  // namespace

BlockLists bind_blocks(BindState& state, const Blocks& blocks) {
  return blocks.table.empty() ? lists_from_rows(state, blocks) : lists_from_table(state, blocks);
}

BlockLists bind_bigbird(BindState& state, const BigBird& bigbird) {
  const auto& sequences = state.geometry.sequences;
  std::vector<int64_t> blocks_of;  // number of blocks of each sequence
  for (size_t b = 0; b < sequences.size(); ++b) {
    if (sequences[b].query_length != sequences[b].key_length) {
      throw InvalidInput(
          fmt::format("bigbird needs as many queries as keys, sequence {} has {} and {}; give it the same lengths", b,
                      sequences[b].query_length, sequences[b].key_length));
    }
    blocks_of.push_back(ceil_div(sequences[b].query_length, bigbird.block));
  }
  const int64_t most = blocks_of.empty() ? 0 : std::ranges::max(blocks_of);
  const bool alike = std::ranges::all_of(blocks_of, [&](int64_t blocks) { return blocks == most; });
  // Random blocks by the number of blocks that they are for; 0 stands for every number.
  std::map<int64_t, RandomBlocks> random;
  match(
      bigbird.source,
      [&](const BigBirdTable& source) { random[0] = random_blocks_from_array(state, bigbird, source.array, most); },
      [&](const BigBirdSeed& source) {
        for (const int64_t blocks : std::set<int64_t>(blocks_of.begin(), blocks_of.end())) {
          random[blocks] = draw_random_blocks(state, bigbird, source.seed, blocks);
        }
      },
      [&](const BigBirdZero&) {
        const int64_t rows = std::max<int64_t>(0, most - 2);
        random[0] = {.name = {},
                     .heads = 1,
                     .rows = rows,
                     .entries = std::vector<int32_t>(static_cast<size_t>(rows * bigbird.random))};
      });
  BlockLists lists{.size = bigbird.block,
                   .batches = alike || blocks_of.empty() ? 1 : static_cast<int64_t>(blocks_of.size()),
                   .heads = 1,
                   .row_blocks = most};
  for (const auto& [blocks, drawn] : random) lists.heads = std::max(lists.heads, drawn.heads);
  ListBuilder builder(lists, true);
  for (int64_t batch = 0; batch < lists.batches; ++batch) {
    const int64_t blocks = blocks_of.empty() ? 0 : blocks_of[static_cast<size_t>(batch)];
    const auto found = random.find(blocks);
    for (int64_t head = 0; head < lists.heads; ++head) {
      for (int64_t row = 0; row < most; ++row) {
        if (row < blocks) {
          const RandomBlocks& drawn = found != random.end() ? found->second : random.at(0);
          add_bigbird_row(builder, drawn, bigbird.random, head, row, blocks);
        }
        builder.end_row([&] { return fmt::format("bigbird, query block {},", row); });
      }
    }
  }
  return lists;
}

}  // namespace harrier
