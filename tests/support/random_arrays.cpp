#include <algorithm>
#include <string>
#include <utility>

#include "ir/match.h"
#include "support/random_draws.h"
#include "support/random_pattern.h"

namespace harrier {
namespace {

/// The largest extents of a batch.
struct Extents {
  int64_t batch = 0;
  int64_t query = 0;
  int64_t key = 0;
};

Extents extents_of(const Geometry& geometry) {
  Extents extents{.batch = static_cast<int64_t>(geometry.sequences.size())};
  for (const Sequence& sequence : geometry.sequences) {
    extents.query = std::max(extents.query, sequence.query_length);
    extents.key = std::max(extents.key, sequence.key_length);
  }
  return extents;
}

int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }

/// Draws an array for each name as it meets the name in the pattern.
class ArrayDrawer {
 public:
  ArrayDrawer(std::mt19937_64& random, const Shape& shape, const Geometry& geometry)
      : random_(random), shape_(shape), geometry_(geometry), extents_(extents_of(geometry)) {}

  RandomArrays take() { return std::move(arrays_); }

  void visit(const Pattern& pattern) {
    visit(pattern.mask);
    if (!pattern.score.alibi.empty()) add_floats(pattern.score.alibi, {shape_.heads}, 0, 1);
    if (!pattern.score.bias.empty()) add_floats(pattern.score.bias, pair_shape(extents_.key), -2, 2);
    if (pattern.score.expression) visit(*pattern.score.expression);
    if (const auto* sink = std::get_if<SoftmaxSinkLogit>(&pattern.softmax)) {
      add_floats(sink->logits, {shape_.heads}, -3, 3);
    }
  }

 private:
  void visit(const Mask& mask) {
    const auto visit_all = [&](const std::vector<Mask>& operands) {
      for (const Mask& operand : operands) visit(operand);
    };
    match(
        mask.node, [](const All&) {}, [](const None&) {}, [](const Causal&) {}, [](const Window&) {},
        [](const Dilated&) {}, [](const Sink&) {},
        [&](const Global& global) {
          if (!global.tokens.empty()) add_tokens(global.tokens);
        },
        [&](const Documents& documents) { add_segments(documents.segment); },
        [&](const Blocks& blocks) { blocks.table.empty() ? add_lists(blocks) : add_table(blocks); },
        [&](const BigBird& bigbird) { add_random_blocks(bigbird); }, [&](const Bits& bits) { add_bits(bits.array); },
        [&](const Where& where) { visit(where.condition); }, [&](const And& both) { visit_all(both.operands); },
        [&](const Or& either) { visit_all(either.operands); }, [&](const Not& negation) { visit(*negation.operand); });
  }

  void visit(const Expression& expression) {
    if (const auto* load = std::get_if<Load>(&expression.node)) {
      std::vector<int64_t> shape;
      for (const Expression& index : load->indices) {
        shape.push_back(size_for(index));
        visit(index);
      }
      load->is_float ? add_floats(load->array, shape, -2, 2) : add_ints(load->array, shape, -5, 30);
    } else if (const auto* node = std::get_if<Unary>(&expression.node)) {
      visit(*node->operand);
    } else if (const auto* pair = std::get_if<Binary>(&expression.node)) {
      visit(*pair->left);
      visit(*pair->right);
    } else if (const auto* choice = std::get_if<Select>(&expression.node)) {
      visit(*choice->condition);
      visit(*choice->if_true);
      visit(*choice->if_false);
    }
  }

  /// A dimension that the index cannot leave.
  int64_t size_for(const Expression& index) {
    int64_t needed = 64;
    if (const auto* literal = std::get_if<IntLiteral>(&index.node)) needed = literal->value + 1;
    if (const auto* pair = std::get_if<Binary>(&index.node)) {
      const auto* divisor = std::get_if<IntLiteral>(&pair->right->node);
      if (pair->kind == BinaryKind::kModulo && divisor != nullptr) needed = divisor->value;
    }
    if (const auto* variable = std::get_if<Variable>(&index.node)) needed = size_for(variable->kind);
    return std::max<int64_t>(1, needed) + draw(random_, 0, 2);
  }

  int64_t size_for(VariableKind kind) const {
    switch (kind) {
      case VariableKind::kBatch:
        return extents_.batch;
      case VariableKind::kHead:
        return shape_.heads;
      case VariableKind::kQuery:
        return extents_.query;
      case VariableKind::kKey:
        return extents_.key;
      case VariableKind::kQueryLength:
        return extents_.query + 1;
      case VariableKind::kKeyLength:
        return extents_.key + 1;
      case VariableKind::kQueryToken:
        return geometry_.query_tokens;
      case VariableKind::kKeyToken:
        return geometry_.key_tokens;
      case VariableKind::kScore:
        break;
    }
    return 1;
  }

  /// [batch or 1, heads or 1, queries, `width`], leading dimensions of 1 sometimes left out.
  std::vector<int64_t> pair_shape(int64_t width) {
    std::vector<int64_t> shape{chance(random_, 0.5) ? extents_.batch : 1, chance(random_, 0.5) ? shape_.heads : 1,
                               extents_.query, width};
    while (shape.size() > 2 && shape.front() == 1 && chance(random_, 0.5)) shape.erase(shape.begin());
    return shape;
  }

  int64_t draw_heads() { return chance(random_, 0.5) ? shape_.heads : 1; }

  void add_tokens(const std::string& name) {
    const int64_t rows = chance(random_, 0.6) ? extents_.batch : 0;
    const int64_t width = draw(random_, 1, 4);
    std::vector<int64_t> tokens;
    for (int64_t row = 0; row < std::max<int64_t>(1, rows); ++row) {
      const int64_t length = rows == 0 ? extents_.key : geometry_.sequences[static_cast<size_t>(row)].key_length;
      for (int64_t i = 0; i < width; ++i) tokens.push_back(draw(random_, -1, length - 1));
    }
    add(name, tokens, rows == 0 ? std::vector<int64_t>{width} : std::vector<int64_t>{rows, width});
  }

  void add_segments(const std::string& name) {
    const bool uniform = std::all_of(geometry_.sequences.begin(), geometry_.sequences.end(),
                                     [&](const Sequence& s) { return s.key_length == extents_.key; });
    std::vector<int64_t> shape{geometry_.key_tokens};
    if (uniform && chance(random_, 0.4)) shape = {extents_.batch, extents_.key};
    if (uniform && chance(random_, 0.3)) shape = {extents_.key};
    const bool sorted = chance(random_, 0.7);
    int64_t segment = draw(random_, -2, 2);
    std::vector<int64_t> segments;
    for (int64_t i = 0; i < element_count(shape); ++i) {
      if (chance(random_, 0.15)) segment = sorted ? segment + draw(random_, 1, 2) : draw(random_, -2, 3);
      segments.push_back(segment);
    }
    add(name, segments, shape);
  }

  void add_table(const Blocks& blocks) {
    std::vector<int64_t> shape{draw_heads(), ceil_div(extents_.query, blocks.size) + draw(random_, 0, 1),
                               ceil_div(extents_.key, blocks.size) + draw(random_, 0, 1)};
    if (shape[0] == 1 && chance(random_, 0.3)) shape.erase(shape.begin());
    if (shape.size() == 3 && chance(random_, 0.3))
      shape.insert(shape.begin(), chance(random_, 0.5) ? extents_.batch : 1);
    std::vector<int64_t> entries(static_cast<size_t>(element_count(shape)));
    for (int64_t& entry : entries) entry = chance(random_, 0.5) ? draw(random_, 1, 3) : 0;
    add(blocks.table, entries, shape);
  }

  void add_lists(const Blocks& blocks) {
    const int64_t heads = draw_heads();
    const int64_t rows = ceil_div(extents_.query, blocks.size) + draw(random_, 0, 1);
    const int64_t columns = ceil_div(extents_.key, blocks.size);
    std::vector<int64_t> offsets;
    std::vector<int64_t> indices;
    for (int64_t head = 0; head < heads; ++head) {
      offsets.push_back(static_cast<int64_t>(indices.size()));
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t count = columns == 0 ? 0 : draw(random_, 0, 4);
        for (int64_t i = 0; i < count; ++i) indices.push_back(draw(random_, 0, columns - 1));
        offsets.push_back(static_cast<int64_t>(indices.size()));
      }
    }
    add(blocks.offsets, offsets, {heads, rows + 1});
    add(blocks.indices, indices, {static_cast<int64_t>(indices.size())});
  }

  void add_random_blocks(const BigBird& bigbird) {
    const auto* source = std::get_if<BigBirdTable>(&bigbird.source);
    if (source == nullptr) return;
    // Every sequence with rows that list random blocks must have the blocks that they list.
    int64_t fewest = std::max<int64_t>(3, ceil_div(extents_.query, bigbird.block));
    for (const Sequence& sequence : geometry_.sequences) {
      const int64_t blocks = ceil_div(sequence.query_length, bigbird.block);
      if (blocks >= 3) fewest = std::min(fewest, blocks);
    }
    const int64_t rows = std::max<int64_t>(1, ceil_div(extents_.query, bigbird.block) - 2) + draw(random_, 0, 1);
    add_ints(source->array, {draw_heads(), rows, bigbird.random}, 0, fewest - 1);
  }

  void add_bits(const std::string& name) {
    if (chance(random_, 0.5)) {
      add_ints(name, pair_shape(extents_.key), 0, 1, ElementType::kBool);
    } else {
      add_ints(name, pair_shape(ceil_div(extents_.key, 8)), 0, 255, ElementType::kUInt8);
    }
  }

  void add_ints(const std::string& name, const std::vector<int64_t>& shape, int64_t low, int64_t high) {
    const auto type =
        pick<ElementType>(random_, {ElementType::kInt8, ElementType::kInt16, ElementType::kInt32, ElementType::kInt64});
    add_ints(name, shape, low, high, type);
  }

  void add_ints(const std::string& name, const std::vector<int64_t>& shape, int64_t low, int64_t high,
                ElementType type) {
    std::vector<int64_t> values(static_cast<size_t>(element_count(shape)));
    for (int64_t& value : values) value = draw(random_, low, high);
    // Values may be past what a small type holds.
    add(name, values, shape, high > 127 && type == ElementType::kInt8 ? ElementType::kInt16 : type);
  }

  void add_floats(const std::string& name, const std::vector<int64_t>& shape, double low, double high) {
    std::uniform_real_distribution<double> uniform(low, high);
    std::vector<double> values(static_cast<size_t>(element_count(shape)));
    // Kernels read float32, so the values are such.
    for (double& value : values) value = static_cast<double>(static_cast<float>(uniform(random_)));
    chance(random_, 0.7) ? store<float>(name, values, shape, ElementType::kFloat32)
                         : store<double>(name, values, shape, ElementType::kFloat64);
  }

  void add(const std::string& name, const std::vector<int64_t>& values, const std::vector<int64_t>& shape) {
    add(name, values, shape, chance(random_, 0.5) ? ElementType::kInt32 : ElementType::kInt64);
  }

  void add(const std::string& name, const std::vector<int64_t>& values, const std::vector<int64_t>& shape,
           ElementType type) {
    switch (type) {
      case ElementType::kBool:
      case ElementType::kUInt8:
        return store<uint8_t>(name, values, shape, type);
      case ElementType::kInt8:
        return store<int8_t>(name, values, shape, type);
      case ElementType::kInt16:
        return store<int16_t>(name, values, shape, type);
      case ElementType::kInt32:
        return store<int32_t>(name, values, shape, type);
      default:
        return store<int64_t>(name, values, shape, ElementType::kInt64);
    }
  }

  template <typename T, typename Source>
  void store(const std::string& name, const std::vector<Source>& values, const std::vector<int64_t>& shape,
             ElementType type) {
    auto memory = std::make_shared<std::vector<T>>();
    for (const Source& value : values) memory->push_back(static_cast<T>(value));
    // An array met a second time keeps the shape of the first.
    if (!arrays_.bindings.emplace(name, ArrayView{.data = memory->data(), .type = type, .shape = shape}).second) return;
    arrays_.owned.push_back(std::move(memory));
  }

  std::mt19937_64& random_;
  const Shape& shape_;
  const Geometry& geometry_;
  Extents extents_;
  RandomArrays arrays_;
};

}  // namespace

RandomArrays random_arrays(std::mt19937_64& random, const Pattern& pattern, const Shape& shape,
                           const Geometry& geometry) {
  ArrayDrawer drawer(random, shape, geometry);
  drawer.visit(pattern);
  return drawer.take();
}

}  // namespace harrier
