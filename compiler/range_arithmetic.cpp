#include "compiler/range_arithmetic.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace harrier {
namespace {

Range decided(bool value) { return {.low = value ? 1 : 0, .high = value ? 1 : 0}; }

int64_t floor_divide(int64_t left, int64_t right) {
  const int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

Range divide(Range left, Range right) {
  // The empty range, until a part is added; some divisor there always is.
  Range result{.low = kInt32.high + 2, .high = kInt32.low};
  const auto add = [&](Range part) { result = hull(result, part); };
  // Over divisors of one sign the quotient is monotone in each operand, so its extremes are at the corners.
  const auto add_corners = [&](int64_t low, int64_t high) {
    if (low > high) return;
    add(hull({floor_divide(left.low, low), floor_divide(left.low, high), floor_divide(left.high, low),
              floor_divide(left.high, high)}));
  };
  add_corners(right.low, std::min<int64_t>(right.high, -1));
  add_corners(std::max<int64_t>(right.low, 1), right.high);
  if (right.low <= 0 && right.high >= 0) add({.low = 0, .high = 0});
  return wrapped(result);
}

Range modulo(Range left, Range right) {
  if (is_single(right)) {
    const int64_t divisor = right.low;
    if (divisor == 0) return {.low = 0, .high = 0};
    const int64_t quotient = floor_divide(left.low, divisor);
    if (quotient == floor_divide(left.high, divisor)) {
      return {.low = left.low - quotient * divisor, .high = left.high - quotient * divisor};
    }
    return divisor > 0 ? Range{.low = 0, .high = divisor - 1} : Range{.low = divisor + 1, .high = 0};
  }
  Range result{.low = std::min<int64_t>(0, right.low + 1), .high = std::max<int64_t>(0, right.high - 1)};
  if (left.low >= 0 && right.low >= 0) {
    if (left.high < right.low) return left;
    result.high = std::min(result.high, left.high);
  }
  return result;
}

Range shift_count(Range count) {
  if (count.low >> 5 != count.high >> 5) return {.low = 0, .high = 31};
  return {.low = count.low & 31, .high = count.high & 31};
}

Range shift_left(Range value, Range count) {
  const auto shifted = [](int64_t x, int64_t by) { return x * (int64_t{1} << by); };
  return wrapped(hull({shifted(value.low, count.low), shifted(value.low, count.high), shifted(value.high, count.low),
                       shifted(value.high, count.high)}));
}

Range shift_right(Range value, Range count) {
  return hull({value.low >> count.low, value.low >> count.high, value.high >> count.low, value.high >> count.high});
}

Range bitwise(BinaryKind kind, Range left, Range right) {
  if (is_single(left) && is_single(right)) {
    if (kind == BinaryKind::kBitAnd) return hull({left.low & right.low});
    if (kind == BinaryKind::kBitOr) return hull({left.low | right.low});
    return hull({left.low ^ right.low});
  }
  if (kind == BinaryKind::kBitAnd && (left.low >= 0 || right.low >= 0)) {
    int64_t high = kInt32.high;
    if (left.low >= 0) high = std::min(high, left.high);
    if (right.low >= 0) high = std::min(high, right.high);
    return {.low = 0, .high = high};
  }
  // No result needs more bits than the wider operand; ~x is -x - 1.
  const auto magnitude = [](int64_t x) { return static_cast<uint64_t>(x < 0 ? ~x : x); };
  const uint64_t all = magnitude(left.low) | magnitude(left.high) | magnitude(right.low) | magnitude(right.high);
  const int64_t limit = int64_t{1} << std::bit_width(all);
  if (left.low >= 0 && right.low >= 0) {
    return {.low = kind == BinaryKind::kBitOr ? std::max(left.low, right.low) : 0, .high = limit - 1};
  }
  return {.low = -limit, .high = limit - 1};
}

Range compare(BinaryKind kind, Range left, Range right) {
  switch (kind) {
    case BinaryKind::kLess:
      if (left.high < right.low) return decided(true);
      return left.low >= right.high ? decided(false) : kUndecided;
    case BinaryKind::kLessEqual:
      if (left.high <= right.low) return decided(true);
      return left.low > right.high ? decided(false) : kUndecided;
    case BinaryKind::kGreater:
      return compare(BinaryKind::kLess, right, left);
    case BinaryKind::kGreaterEqual:
      return compare(BinaryKind::kLessEqual, right, left);
    default:
      break;
  }
  const bool wants_equal = kind == BinaryKind::kEqual;
  if (left.high < right.low || right.high < left.low) return decided(!wants_equal);
  if (is_single(left) && is_single(right)) return decided(wants_equal);
  return kUndecided;
}

}  // namespace

Range wrapped(Range range) {
  const int64_t low_turns = (range.low - kInt32.low) >> 32;
  const int64_t high_turns = (range.high - kInt32.low) >> 32;
  if (low_turns != high_turns) return kInt32;
  return {.low = range.low - low_turns * (int64_t{1} << 32), .high = range.high - low_turns * (int64_t{1} << 32)};
}

Range hull(std::initializer_list<int64_t> values) { return {.low = std::min(values), .high = std::max(values)}; }

Range hull(Range left, Range right) {
  return {.low = std::min(left.low, right.low), .high = std::max(left.high, right.high)};
}

bool is_single(Range range) { return range.low == range.high; }

Range absolute(Range range) {
  const Range ends = hull({std::abs(range.low), std::abs(range.high)});
  return wrapped({.low = range.low < 0 && range.high > 0 ? 0 : ends.low, .high = ends.high});
}

Range truth(std::optional<Range> range) {
  if (!range || (range->low <= 0 && range->high >= 0 && !is_single(*range))) return kUndecided;
  return decided(range->low != 0 || range->high != 0);
}

Range calculate(BinaryKind kind, Range left, Range right) {
  switch (kind) {
    case BinaryKind::kAdd:
      return wrapped({.low = left.low + right.low, .high = left.high + right.high});
    case BinaryKind::kSubtract:
      return wrapped({.low = left.low - right.high, .high = left.high - right.low});
    case BinaryKind::kMultiply:
      return wrapped(
          hull({left.low * right.low, left.low * right.high, left.high * right.low, left.high * right.high}));
    case BinaryKind::kDivide:
      return divide(left, right);
    case BinaryKind::kModulo:
      return modulo(left, right);
    case BinaryKind::kMin:
      return {.low = std::min(left.low, right.low), .high = std::min(left.high, right.high)};
    case BinaryKind::kMax:
      return {.low = std::max(left.low, right.low), .high = std::max(left.high, right.high)};
    case BinaryKind::kAnd:
      return calculate(BinaryKind::kMin, truth(left), truth(right));
    case BinaryKind::kOr:
      return calculate(BinaryKind::kMax, truth(left), truth(right));
    case BinaryKind::kBitAnd:
    case BinaryKind::kBitOr:
    case BinaryKind::kBitXor:
      return bitwise(kind, left, right);
    case BinaryKind::kShiftLeft:
      return shift_left(left, shift_count(right));
    case BinaryKind::kShiftRight:
      return shift_right(left, shift_count(right));
    case BinaryKind::kLess:
    case BinaryKind::kLessEqual:
    case BinaryKind::kGreater:
    case BinaryKind::kGreaterEqual:
    case BinaryKind::kEqual:
    case BinaryKind::kNotEqual:
      return compare(kind, left, right);
  }
  return kInt32;
}

}  // namespace harrier
