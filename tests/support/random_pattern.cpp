#include "support/random_pattern.h"

#include <string>
#include <utility>

#include "support/random_draws.h"

namespace harrier {
namespace {

/// Draws masks; counts the array names it has given out.
class MaskDrawer {
 public:
  MaskDrawer(std::mt19937_64& random, const MaskChoices& choices) : random_(random), choices_(choices) {}

  Mask draw_mask(int depth) {
    if (depth == 0 || chance(random_, 0.3)) return draw_atom();
    switch (draw(random_, 0, 4)) {
      case 0:
      case 1:
        return draw_mask(depth - 1) & draw_mask(depth - 1);
      case 2:
      case 3:
        return draw_mask(depth - 1) | draw_mask(depth - 1);
      default:
        return ~draw_mask(depth - 1);
    }
  }

 private:
  std::string fresh_name() { return "a" + std::to_string(names_++); }

  int64_t reach() { return chance(random_, 0.2) ? kUnbounded : draw(random_, 0, 20); }

  Mask draw_atom() {
    while (true) {
      switch (draw(random_, 0, 12)) {
        case 0:
          return chance(random_, 0.5) ? all() : none();
        case 1:
          return causal();
        case 2:
          return window(reach(), reach());
        case 3:
          return dilated(reach(), reach(), draw(random_, 1, 5));
        case 4:
          return sink(draw(random_, 0, 12));
        case 5:
          return global_tokens(draw(random_, 0, 5), draw_side());
        case 6:
          return global_tokens(fresh_name(), draw_side());
        case 7:
          return documents(fresh_name());
        case 8:
          return bits(fresh_name());
        case 9:
          if (draw_tables()) return blocks(pick(random_, choices_.block_sizes), fresh_name(), draw_counted());
          break;
        case 10:
          if (draw_tables()) {
            std::string offsets = fresh_name();
            return block_lists(pick(random_, choices_.block_sizes), std::move(offsets), fresh_name(), draw_counted());
          }
          break;
        case 11:
          if (choices_.counted && choices_.bigbird && draw_tables()) return draw_bigbird();
          break;
        default:
          if (choices_.expressions) return where(draw_condition(2));
          break;
      }
    }
  }

  /// Whether one more block atom may be drawn; a mask has at most four.
  bool draw_tables() { return choices_.tables && tables_++ < 4; }

  GlobalSide draw_side() {
    return pick<GlobalSide>(random_, {GlobalSide::kBoth, GlobalSide::kQueries, GlobalSide::kKeys});
  }

  bool draw_counted() { return choices_.counted && chance(random_, 0.4); }

  Mask draw_bigbird() {
    const int64_t size = pick(random_, choices_.block_sizes);
    const int64_t lists = draw(random_, 1, 3);
    if (chance(random_, 0.3)) return bigbird(size, lists, BigBirdZero{});
    return bigbird(size, lists, BigBirdTable{fresh_name()});
  }

  Expression draw_condition(int depth) {
    if (depth > 0 && chance(random_, 0.4)) {
      switch (draw(random_, 0, 2)) {
        case 0:
          return draw_condition(depth - 1) && draw_condition(depth - 1);
        case 1:
          return draw_condition(depth - 1) || draw_condition(depth - 1);
        default:
          return !draw_condition(depth - 1);
      }
    }
    const auto kind = pick<BinaryKind>(random_, {BinaryKind::kLess, BinaryKind::kLessEqual, BinaryKind::kGreater,
                                                 BinaryKind::kGreaterEqual, BinaryKind::kEqual, BinaryKind::kNotEqual});
    return binary(kind, draw_int(2), draw_int(1));
  }

  Expression draw_int(int depth) {
    if (depth == 0 || chance(random_, 0.2)) return draw_leaf();
    if (chance(random_, 0.1)) return select(draw_condition(0), draw_int(depth - 1), draw_int(depth - 1));
    if (chance(random_, 0.1)) {
      return unary(chance(random_, 0.5) ? UnaryKind::kNegate : UnaryKind::kAbs, draw_int(depth - 1));
    }
    const auto kind = pick<BinaryKind>(
        random_, {BinaryKind::kAdd, BinaryKind::kSubtract, BinaryKind::kSubtract, BinaryKind::kMultiply,
                  BinaryKind::kDivide, BinaryKind::kModulo, BinaryKind::kMin, BinaryKind::kMax, BinaryKind::kBitAnd,
                  BinaryKind::kBitOr, BinaryKind::kBitXor, BinaryKind::kShiftLeft, BinaryKind::kShiftRight});
    return binary(kind, draw_int(depth - 1), draw_int(depth - 1));
  }

  Expression draw_leaf() {
    if (chance(random_, 0.3)) return constant(draw(random_, -3, 20));
    if (chance(random_, 0.15)) {
      std::vector<Expression> indices{draw_index()};
      if (chance(random_, 0.3)) indices.push_back(draw_index());
      return load(fresh_name(), std::move(indices));
    }
    return draw_variable();
  }

  Expression draw_index() {
    return chance(random_, 0.4) ? draw_variable() % constant(draw(random_, 1, 9)) : draw_variable();
  }

  Expression draw_variable() {
    using enum VariableKind;
    return {Variable{pick<VariableKind>(
        random_, {kQuery, kKey, kQuery, kKey, kBatch, kHead, kQueryLength, kKeyLength, kQueryToken, kKeyToken})}};
  }

  std::mt19937_64& random_;
  const MaskChoices& choices_;
  int names_ = 0;
  int tables_ = 0;
};

}  // namespace

Mask random_mask(std::mt19937_64& random, const MaskChoices& choices) {
  return MaskDrawer(random, choices).draw_mask(choices.max_depth);
}

Geometry random_geometry(std::mt19937_64& random, int64_t max_batch, int64_t max_length, bool same_lengths) {
  const auto draw_length = [&] { return chance(random, 0.1) ? 0 : draw(random, 1, max_length); };
  const int64_t batch = draw(random, 1, max_batch);
  const bool is_padded = chance(random, 0.5);
  Geometry geometry;
  Sequence sequence;
  for (int64_t b = 0; b < batch; ++b) {
    if (b == 0 || !is_padded) {
      sequence.query_length = draw_length();
      sequence.key_length = same_lengths || chance(random, 0.3) ? sequence.query_length : draw_length();
    }
    const bool same = sequence.query_length == sequence.key_length;
    sequence.query_valid = is_padded ? draw(random, 0, sequence.query_length) : sequence.query_length;
    sequence.key_valid =
        is_padded && !same ? draw(random, 0, sequence.key_length) : (same ? sequence.query_valid : sequence.key_length);
    sequence.query_token = geometry.query_tokens;
    sequence.key_token = geometry.key_tokens;
    geometry.query_tokens += sequence.query_length;
    geometry.key_tokens += sequence.key_length;
    geometry.sequences.push_back(sequence);
  }
  return geometry;
}

}  // namespace harrier
