#include "compiler/bigbird_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <utility>

#include "compiler/numpy_random.h"
#include "ir/error.h"

namespace harrier {
namespace {

// Hugging Face's max_position_embeddings of all released models, and how far its first plan lets random blocks reach.
constexpr int64_t kReleasedLength = 4096;
constexpr int64_t kReleasedReach = 1024;

/// The table being filled: heads x rows x random, where row 0 is query block 1.
struct Table {
  int64_t rows;
  int64_t random;
  std::vector<int32_t> entries;

  /// Writes entries [begin, end) of a row; one block alone is repeated, as NumPy's assignment does. Rows past the table
  /// are checked only: Hugging Face draws them and cuts them off.
  void place(int64_t head, int64_t row, int64_t begin, int64_t end, const std::vector<int32_t>& legal) {
    const auto wanted = static_cast<size_t>(end - begin);
    if (legal.size() < wanted && legal.size() != 1) {
      throw InvalidInput(fmt::format(
          "bigbird: query block {} has {} legal random blocks but needs {}; lower random or use longer sequences",
          row + 1, legal.size(), wanted));
    }
    if (row >= rows) return;
    for (size_t i = 0; i < wanted; ++i) {
      entries[static_cast<size_t>((head * rows + row) * random + begin) + i] = legal.size() == 1 ? legal[0] : legal[i];
    }
  }
};

std::vector<int32_t> count_up(int64_t begin, int64_t end) {
  std::vector<int32_t> values(static_cast<size_t>(std::max<int64_t>(0, end - begin)));
  std::iota(values.begin(), values.end(), static_cast<int32_t>(begin));
  return values;
}

/// The plan of the released models: a table for kReleasedLength tokens whose random blocks lie in the first
/// kReleasedReach tokens. Each head draws its rows before the next head starts.
void draw_released_plan(NumpyRandom& random, int64_t block, int64_t heads, Table& table) {
  const int64_t blocks = kReleasedLength / block;
  const int64_t last_inner = blocks - 2;  // candidates are blocks 1..last_inner
  const int64_t last = kReleasedReach > 2 * block ? kReleasedReach / block - 1 : blocks - 1;
  // Blocks first..last as Hugging Face slices them out of its array of inner blocks.
  const auto inner = [&](int64_t first, int64_t end) { return count_up(first, std::min(end, last_inner) + 1); };
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t i = 1; i < blocks - 1; ++i) {
      std::vector<int32_t> candidates;
      if (i <= 2) {
        candidates = inner(i + 2, last);
      } else if (i >= blocks - 3 || i - 2 > last) {
        candidates = inner(1, last);
      } else {
        candidates = inner(1, i - 2);
        if (i + 1 != last) {
          const std::vector<int32_t> right = inner(i + 2, last);
          candidates.insert(candidates.end(), right.begin(), right.end());
        }
      }
      table.place(head, i - 1, 0, table.random, random.permutation(std::move(candidates)));
    }
  }
}

/// The legal blocks among [begin, end) of query block `row_block`, in a drawn order.
std::vector<int32_t> draw_legal(NumpyRandom& random, int64_t row_block, int64_t begin, int64_t end) {
  std::vector<int32_t> legal = random.permutation(count_up(begin, end));
  std::erase_if(legal, [&](int32_t candidate) {
    const bool in_window = candidate >= row_block - 1 && candidate <= row_block + 1;
    const bool is_global = candidate == 0 || candidate == end - 1;
    const bool beside_first_row = row_block == 1 && candidate == end - 2;
    const bool beside_last_row = row_block == end - 2 && candidate == 1;
    return in_window || is_global || beside_first_row || beside_last_row;
  });
  return legal;
}

/// The plan for other lengths: up to two sections of blocks, each giving every row a share of its random blocks. Rows
/// are outer and heads inner, in the order that Hugging Face visits them.
void draw_section_plan(NumpyRandom& random, int64_t blocks, int64_t heads, Table& table) {
  const int64_t wanted = table.random;
  int64_t split = blocks;  // blocks of the first section
  int64_t first_share = wanted;
  if (2 * wanted + 5 < blocks) {
    split = 2 * wanted + 5;
  } else if (wanted + 5 < blocks) {
    split = wanted + 5;
    first_share = wanted / 2;
  }
  const auto draw_rows = [&](int64_t row_begin, int64_t row_end, int64_t begin, int64_t end, int64_t from, int64_t to) {
    if (from == to) return;
    for (int64_t row_block = row_begin; row_block < row_end; ++row_block) {
      for (int64_t head = 0; head < heads; ++head) {
        // Query block nb - 1 is drawn too and thrown away by place().
        table.place(head, row_block - 1, from, to, draw_legal(random, row_block, begin, end));
      }
    }
  };
  draw_rows(1, split, 0, split, 0, first_share);
  draw_rows(1, split < blocks ? split : 1, split, blocks, first_share, wanted);
  draw_rows(split, blocks, 0, split, 0, first_share);
  draw_rows(split, blocks, split, blocks, first_share, wanted);
}

}  // namespace

std::vector<int32_t> draw_bigbird_table(int64_t seed, int64_t length, int64_t block, int64_t heads, int64_t random) {
  if (seed < 0 || seed > std::numeric_limits<uint32_t>::max()) {
    throw InvalidInput(fmt::format("bigbird: seed {} is outside [0, 4294967295]; use a smaller one", seed));
  }
  const int64_t blocks = length / block + (length % block != 0 ? 1 : 0);
  if (blocks < 3) return {};
  Table table{.rows = blocks - 2, .random = random, .entries = {}};
  table.entries.resize(static_cast<size_t>(heads * table.rows * random));
  NumpyRandom generator(static_cast<uint32_t>(seed));
  const int64_t padded = blocks * block;
  if (padded == 1024 || padded == 3072 || padded == 4096) {
    draw_released_plan(generator, block, heads, table);
  } else {
    draw_section_plan(generator, blocks, heads, table);
  }
  return table.entries;
}

}  // namespace harrier
