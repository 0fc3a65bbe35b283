#include <algorithm>

#include "compiler/bigbird_table.h"
#include "ir/error.h"
#include "ir/match.h"
#include "support/oracle_expression.h"

namespace harrier::oracle {
namespace {

/// The query's position among the keys.
int64_t aligned(const Sequence& sequence, int64_t q) { return q + sequence.key_length - sequence.query_length; }

bool in_window(int64_t left, int64_t right, int64_t distance) {
  return (left == kUnbounded || distance >= -left) && (right == kUnbounded || distance <= right);
}

bool is_global_token(const Global& global, const Context& context, int64_t b, int64_t position) {
  if (position < 0) return false;
  if (global.tokens.empty()) return position < global.count;
  const ArrayView& tokens = array_of(context, global.tokens);
  const int64_t row = tokens.shape.size() == 2 ? b * tokens.shape[1] : 0;
  for (int64_t i = 0; i < tokens.shape.back(); ++i) {
    if (int_at(tokens, row + i) == position) return true;
  }
  return false;
}

int64_t segment_of(const std::string& name, const Context& context, const Position& at, int64_t position) {
  const ArrayView& segment = array_of(context, name);
  const Sequence& sequence = context.geometry.sequences[static_cast<size_t>(at.b)];
  if (segment.shape.size() == 2) return int_at(segment, at.b * segment.shape[1] + position);
  // One array for all rows, or one number for each token of the batch.
  const bool is_packed = segment.shape[0] == context.geometry.key_tokens;
  return int_at(segment, is_packed ? sequence.key_token + position : position);
}

int64_t count_in_table(const Blocks& blocks, const Context& context, const Position& at) {
  const int64_t row = at.q / blocks.size;
  const int64_t column = at.k / blocks.size;
  if (!blocks.table.empty()) {
    const ArrayView& table = array_of(context, blocks.table);
    return int_at(table, broadcast_index(table, {at.b, at.h, row, column}));
  }
  const ArrayView& offsets = array_of(context, blocks.offsets);
  const ArrayView& indices = array_of(context, blocks.indices);
  const int64_t row_start = broadcast_index(offsets, {at.h, row});
  int64_t count = 0;
  for (int64_t i = int_at(offsets, row_start); i < int_at(offsets, row_start + 1); ++i) {
    if (int_at(indices, i) == column) ++count;
  }
  return count;
}

int64_t random_block(const BigBird& bigbird, const Context& context, const Position& at, int64_t row, int64_t entry) {
  const int64_t length = context.geometry.sequences[static_cast<size_t>(at.b)].query_length;
  return match(
      bigbird.source,
      [&](const BigBirdTable& source) {
        const ArrayView& table = array_of(context, source.array);
        return int_at(table, broadcast_index(table, {at.h, row, entry}));
      },
      [&](const BigBirdSeed& source) {
        std::vector<int32_t>& table = context.drawn[{source.seed, length, bigbird.block, bigbird.random}];
        if (table.empty()) {
          table = draw_bigbird_table(source.seed, length, bigbird.block, context.heads, bigbird.random);
        }
        const int64_t rows = static_cast<int64_t>(table.size()) / (context.heads * bigbird.random);
        return int64_t{table[static_cast<size_t>((at.h * rows + row) * bigbird.random + entry)]};
      },
      [](const BigBirdZero&) { return int64_t{0}; });
}

int64_t count_in_bigbird(const BigBird& bigbird, const Context& context, const Position& at) {
  const int64_t length = context.geometry.sequences[static_cast<size_t>(at.b)].query_length;
  const int64_t blocks = (length + bigbird.block - 1) / bigbird.block;
  const int64_t row = at.q / bigbird.block;
  const int64_t column = at.k / bigbird.block;
  if (row == 0 || row == blocks - 1) return 1;
  int64_t count = column == 0 || column == blocks - 1 || std::abs(column - row) <= 1 ? 1 : 0;
  for (int64_t entry = 0; entry < bigbird.random; ++entry) {
    if (random_block(bigbird, context, at, row - 1, entry) == column) ++count;
  }
  return count;
}

bool bit_at(const ArrayView& bits, const Position& at) {
  if (bits.type == ElementType::kBool) return int_at(bits, broadcast_index(bits, {at.b, at.h, at.q, at.k})) != 0;
  const int64_t byte = int_at(bits, broadcast_index(bits, {at.b, at.h, at.q, at.k >> 3}));
  return ((byte >> (at.k & 7)) & 1) != 0;
}

}  // namespace

int64_t multiplicity(const Mask& mask, const Context& context, const Position& at) {
  const Sequence& sequence = context.geometry.sequences.at(static_cast<size_t>(at.b));
  const int64_t q = aligned(sequence, at.q);
  const int64_t k = at.k;
  const auto count_of = [&](const Mask& operand) { return multiplicity(operand, context, at); };
  return match(
      mask.node, [](const All&) { return int64_t{1}; }, [](const None&) { return int64_t{0}; },
      [&](const Causal&) { return int64_t{k <= q}; },
      [&](const Window& window) { return int64_t{in_window(window.left, window.right, k - q)}; },
      [&](const Dilated& dilated) {
        return int64_t{in_window(dilated.left, dilated.right, k - q) && (q - k) % dilated.step == 0};
      },
      [&](const Sink& sink) { return int64_t{k < sink.count}; },
      [&](const Global& global) {
        const bool row = global.side != GlobalSide::kKeys && is_global_token(global, context, at.b, q);
        const bool column = global.side != GlobalSide::kQueries && is_global_token(global, context, at.b, k);
        return int64_t{row || column};
      },
      [&](const Documents& documents) {
        if (q < 0) return int64_t{0};
        return int64_t{segment_of(documents.segment, context, at, q) == segment_of(documents.segment, context, at, k)};
      },
      [&](const Blocks& blocks) {
        const int64_t count = count_in_table(blocks, context, at);
        return blocks.counted ? count : int64_t{count != 0};
      },
      [&](const BigBird& bigbird) { return count_in_bigbird(bigbird, context, at); },
      [&](const Bits& bits) { return int64_t{bit_at(array_of(context, bits.array), at)}; },
      [&](const Where& where) { return int64_t{evaluate(where.condition, context, at, {}).is_true()}; },
      [&](const And& both) {
        int64_t product = 1;
        for (const Mask& operand : both.operands) product *= count_of(operand);
        return product;
      },
      [&](const Or& either) {
        int64_t largest = 0;
        for (const Mask& operand : either.operands) largest = std::max(largest, count_of(operand));
        return largest;
      },
      [&](const Not& negation) { return int64_t{count_of(*negation.operand) == 0}; });
}

}  // namespace harrier::oracle
