#include "cli/draw_arrays.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "compiler/expression_range.h"
#include "ir/ceil_div.h"
#include "ir/error.h"
#include "ir/match.h"
#include "ir/verify.h"

namespace harrier {
namespace {

constexpr int64_t kLargestArrayBytes = int64_t{1} << 32;
constexpr double kDensity = 0.1;         // of block tables and bit masks, beside the diagonal
constexpr int64_t kLargestDrawnInt = 7;  // of arrays in expressions, whose meaning is the pattern's own
constexpr int64_t kDocumentsASequence = 4;

void collect_loads(const Expression& expression, std::vector<Load>& loads) {
  match(
      expression.node,
      [&](const Load& load) {
        for (const Expression& index : load.indices) collect_loads(index, loads);
        loads.push_back(load);  // after those in its indices, whose values it depends on
      },
      [&](const Unary& unary) { collect_loads(*unary.operand, loads); },
      [&](const Binary& binary) {
        collect_loads(*binary.left, loads);
        collect_loads(*binary.right, loads);
      },
      [&](const Select& select) {
        collect_loads(*select.condition, loads);
        collect_loads(*select.if_true, loads);
        collect_loads(*select.if_false, loads);
      },
      [](const auto&) {});
}

void collect_atoms(const Mask& mask, std::vector<Mask>& atoms) {
  match(
      mask.node,
      [&](const And& node) {
        for (const Mask& operand : node.operands) collect_atoms(operand, atoms);
      },
      [&](const Or& node) {
        for (const Mask& operand : node.operands) collect_atoms(operand, atoms);
      },
      [&](const Not& node) { collect_atoms(*node.operand, atoms); }, [&](const auto&) { atoms.push_back(mask); });
}

class Drawing {
 public:
  Drawing(NamedArrays& arrays, const Shape& shape, const Geometry& geometry, uint64_t seed)
      : arrays_(arrays), shape_(shape), geometry_(geometry), numbers_(seed) {
    for (const Sequence& sequence : geometry.sequences) {
      longest_query_ = std::max(longest_query_, sequence.query_length);
      longest_key_ = std::max(longest_key_, sequence.key_length);
    }
  }

  void draw_atom(const Mask& atom) {
    match(
        atom.node, [&](const Global& global) { draw_tokens(global.tokens); },
        [&](const Documents& documents) { draw_segments(documents.segment); },
        [&](const Blocks& blocks) { blocks.table.empty() ? draw_lists(blocks) : draw_table(blocks); },
        [&](const BigBird& bigbird) {
          if (const auto* table = std::get_if<BigBirdTable>(&bigbird.source)) draw_random_blocks(bigbird, table->array);
        },
        [&](const Bits& bits) { draw_bits(bits.array); }, [&](const Where& where) { draw_loads(where.condition); },
        [](const auto&) {});
  }

  void draw_loads(const Expression& expression) {
    std::vector<Load> loads;
    collect_loads(expression, loads);
    // An array that is read in several places must be large enough for all of them.
    for (const Load& load : loads) {
      std::vector<int64_t> extents(load.indices.size(), 1);
      for (const Load& other : loads) {
        if (other.array != load.array) continue;
        for (size_t i = 0; i < extents.size(); ++i) extents[i] = std::max(extents[i], extent_of(other.indices[i]));
      }
      draw_loaded(load, extents);
    }
  }

  void draw_slopes(const std::string& name) {
    if (NpyArray* array = add(name, ElementType::kFloat32, {shape_.heads})) {
      for (int64_t h = 0; h < shape_.heads; ++h) {
        put(*array, h,
            static_cast<float>(std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(shape_.heads))));
      }
    }
  }

  void draw_floats(const std::string& name, std::vector<int64_t> dimensions) {
    NpyArray* array = add(name, ElementType::kFloat32, std::move(dimensions));
    if (array == nullptr) return;
    const int64_t count = element_count(array->shape);
    for (int64_t i = 0; i < count; ++i) put(*array, i, static_cast<float>(2 * numbers_.fraction() - 1));
  }

  int64_t longest_query() const { return longest_query_; }
  int64_t longest_key() const { return longest_key_; }
  std::vector<std::string> take_notes() { return std::move(notes_); }

 private:
  /// The new array, zeroed, or null when the name is bound already.
  NpyArray* add(const std::string& name, ElementType type, std::vector<int64_t> dimensions) {
    if (name.empty() || arrays_.arrays.contains(name)) return nullptr;
    const int64_t elements = element_count(dimensions);
    if (elements > kLargestArrayBytes / bytes_of(type)) {
      throw InvalidInput(fmt::format(
          "@{} drawn at random would have {} elements, more than {} GiB: bind a file to it, or take shorter lengths",
          name, elements, kLargestArrayBytes >> 30));
    }
    notes_.push_back(fmt::format("@{} is drawn at random: {} [{}]", name, name_of(type), fmt::join(dimensions, ", ")));
    NpyArray& array = arrays_.arrays[name];
    array = {.type = type, .shape = std::move(dimensions), .bytes = {}};
    array.bytes.resize(static_cast<size_t>(elements * bytes_of(type)));
    return &array;
  }

  template <typename Value>
  static void put(NpyArray& array, int64_t index, Value value) {
    std::memcpy(array.bytes.data() + index * static_cast<int64_t>(sizeof(Value)), &value, sizeof(Value));
  }

  void draw_tokens(const std::string& name) {
    constexpr int64_t kMost = 4;
    NpyArray* array = add(name, ElementType::kInt32, {static_cast<int64_t>(geometry_.sequences.size()), kMost});
    if (array == nullptr) return;
    int64_t at = 0;
    for (const Sequence& sequence : geometry_.sequences) {
      std::set<int64_t> tokens;
      const int64_t count = numbers_.between(2, kMost);
      for (int64_t i = 0; i < count && sequence.key_length > 0; ++i) {
        tokens.insert(i == 0 ? 0 : numbers_.between(0, sequence.key_length - 1));
      }
      for (const int64_t token : tokens) put(*array, at++, static_cast<int32_t>(token));
      for (auto i = static_cast<int64_t>(tokens.size()); i < kMost; ++i) put(*array, at++, int32_t{-1});
    }
  }

  void draw_segments(const std::string& name) {
    NpyArray* array = add(name, ElementType::kInt32, {geometry_.key_tokens});
    if (array == nullptr) return;
    for (const Sequence& sequence : geometry_.sequences) {
      const int64_t longest = std::max<int64_t>(1, 2 * sequence.key_length / kDocumentsASequence);
      int32_t segment = 0;
      int64_t left = numbers_.between(1, longest);
      for (int64_t k = 0; k < sequence.key_length; ++k) {
        if (left-- == 0) {
          ++segment;
          left = numbers_.between(1, longest) - 1;
        }
        put(*array, sequence.key_token + k, segment);
      }
    }
  }

  void draw_table(const Blocks& blocks) {
    const int64_t rows = std::max<int64_t>(1, ceil_div(longest_query_, blocks.size));
    const int64_t columns = std::max<int64_t>(1, ceil_div(longest_key_, blocks.size));
    NpyArray* array = add(blocks.table, ElementType::kUInt8, {1, rows, columns});
    if (array == nullptr) return;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column)
        put(*array, row * columns + column, draw_block(row, column, rows, columns, blocks.counted));
    }
  }

  /// How often a block counts: mostly not at all.
  uint8_t draw_block(int64_t row, int64_t column, int64_t rows, int64_t columns, bool is_counted) {
    const bool is_shown = row * columns / rows == column || numbers_.fraction() < kDensity;
    if (!is_shown) return 0;
    return is_counted && numbers_.fraction() < 0.25 ? 2 : 1;
  }

  void draw_lists(const Blocks& blocks) {
    if (arrays_.arrays.contains(blocks.offsets) != arrays_.arrays.contains(blocks.indices)) {
      throw InvalidInput(
          fmt::format("only one of @{} and @{} is bound: bind both, or neither", blocks.offsets, blocks.indices));
    }
    const int64_t rows = std::max<int64_t>(1, ceil_div(longest_query_, blocks.size));
    // The lists fit every sequence: row r holds blocks that the shortest sequence with such a row has.
    NpyArray* offsets = add(blocks.offsets, ElementType::kInt32, {1, rows + 1});
    if (offsets == nullptr) return;
    std::vector<int32_t> indices;
    for (int64_t row = 0; row < rows; ++row) {
      int64_t columns = ceil_div(longest_key_, blocks.size);
      for (const Sequence& sequence : geometry_.sequences) {
        if (sequence.query_length > row * blocks.size)
          columns = std::min(columns, ceil_div(sequence.key_length, blocks.size));
      }
      for (int64_t column = 0; column < columns; ++column) {
        const uint8_t count = draw_block(row, column, rows, columns, blocks.counted);
        indices.insert(indices.end(), count, static_cast<int32_t>(column));
      }
      put(*offsets, row + 1, static_cast<int32_t>(indices.size()));
    }
    NpyArray* list = add(blocks.indices, ElementType::kInt32, {static_cast<int64_t>(indices.size())});
    HARRIER_CHECK(list != nullptr, "offsets and indices are drawn together");
    if (!indices.empty()) std::memcpy(list->bytes.data(), indices.data(), list->bytes.size());
  }

  void draw_random_blocks(const BigBird& bigbird, const std::string& name) {
    const int64_t rows = std::max<int64_t>(1, ceil_div(longest_query_, bigbird.block) - 2);
    NpyArray* array = add(name, ElementType::kInt32, {shape_.heads, rows, bigbird.random});
    if (array == nullptr) return;
    for (int64_t i = 0; i < shape_.heads * rows * bigbird.random; ++i) {
      // Row r is query block r + 1, so every sequence that reads it has a block r + 2.
      const int64_t row = i / bigbird.random % rows;
      put(*array, i, static_cast<int32_t>(numbers_.between(0, row + 2)));
    }
  }

  void draw_bits(const std::string& name) {
    const int64_t bytes_a_row = ceil_div(longest_key_, 8);
    NpyArray* array = add(name, ElementType::kUInt8, {longest_query_, bytes_a_row});
    if (array == nullptr) return;
    for (int64_t q = 0; q < longest_query_; ++q) {
      for (int64_t byte = 0; byte < bytes_a_row; ++byte) {
        unsigned bits = 0;
        for (int bit = 0; bit < 8; ++bit) {
          const int64_t k = 8 * byte + bit;
          if (k < longest_key_ && (k == q || numbers_.fraction() < kDensity)) bits |= 1u << bit;
        }
        put(*array, q * bytes_a_row + byte, static_cast<uint8_t>(bits));
      }
    }
  }

  /// One more than the largest value of an index; what cannot be told is taken for a position.
  int64_t extent_of(const Expression& index) const {
    const auto last = [](int64_t count) { return Range{.low = 0, .high = std::max<int64_t>(0, count - 1)}; };
    const VariableRanges variables{.b = last(static_cast<int64_t>(geometry_.sequences.size())),
                                   .h = last(shape_.heads),
                                   .q = last(longest_query_),
                                   .k = last(longest_key_),
                                   .q_len = {.low = 0, .high = longest_query_},
                                   .kv_len = {.low = 0, .high = longest_key_},
                                   .q_token = last(geometry_.query_tokens),
                                   .k_token = last(geometry_.key_tokens)};
    BoundPattern bound;
    bound.views = arrays_.bindings();
    const std::optional<Range> range = range_of(index, variables, bound);
    const int64_t fallback = std::max(longest_query_, longest_key_);
    return std::max<int64_t>(1, range ? range->high + 1 : fallback);
  }

  void draw_loaded(const Load& load, std::vector<int64_t> extents) {
    if (load.is_float) {
      draw_floats(load.array, std::move(extents));
      return;
    }
    NpyArray* array = add(load.array, ElementType::kInt32, std::move(extents));
    if (array == nullptr) return;
    const int64_t count = element_count(array->shape);
    for (int64_t i = 0; i < count; ++i) put(*array, i, static_cast<int32_t>(numbers_.between(0, kLargestDrawnInt)));
  }

  NamedArrays& arrays_;
  const Shape& shape_;
  const Geometry& geometry_;
  SeededNumbers numbers_;
  int64_t longest_query_ = 0;
  int64_t longest_key_ = 0;
  std::vector<std::string> notes_;
};

}  // namespace

uint64_t SeededNumbers::next() {
  state_ += 0x9e3779b97f4a7c15;
  uint64_t mixed = state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

int64_t SeededNumbers::between(int64_t low, int64_t high) {
  const uint64_t span = static_cast<uint64_t>(high - low) + 1;
  return low + static_cast<int64_t>(next() % span);
}

double SeededNumbers::fraction() { return static_cast<double>(next() >> 11) * 0x1p-53; }

std::vector<std::string> draw_unbound(NamedArrays& arrays, const Pattern& pattern, const Shape& shape,
                                      const Geometry& geometry, uint64_t seed) {
  Drawing drawing(arrays, shape, geometry, seed);
  std::vector<Mask> atoms;
  collect_atoms(pattern.mask, atoms);
  for (const Mask& atom : atoms) drawing.draw_atom(atom);
  if (!pattern.score.alibi.empty()) drawing.draw_slopes(pattern.score.alibi);
  if (!pattern.score.bias.empty())
    drawing.draw_floats(pattern.score.bias, {drawing.longest_query(), drawing.longest_key()});
  if (pattern.score.expression) drawing.draw_loads(*pattern.score.expression);
  if (const auto* sink = std::get_if<SoftmaxSinkLogit>(&pattern.softmax))
    drawing.draw_floats(sink->logits, {shape.heads});
  return drawing.take_notes();
}

}  // namespace harrier
