// How the operators, functions and variables of expressions are written: one table each, for the parser and the
// printer.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "ir/expression.h"

namespace harrier {

/// A larger precedence binds tighter; the order is that of C. All are left-associative.
struct BinaryOperator {
  BinaryKind kind;
  std::string_view symbol;
  int precedence;
};

inline constexpr int kBitOrPrecedence = 3;
inline constexpr int kBitAndPrecedence = 5;
inline constexpr int kEqualityPrecedence = 6;
inline constexpr int kRelationPrecedence = 7;
inline constexpr int kShiftPrecedence = 8;
inline constexpr int kUnaryPrecedence = 11;
inline constexpr int kAtomPrecedence = 12;

inline constexpr auto kBinaryOperators = std::to_array<BinaryOperator>({
    {BinaryKind::kOr, "||", 1},
    {BinaryKind::kAnd, "&&", 2},
    {BinaryKind::kBitOr, "|", kBitOrPrecedence},
    {BinaryKind::kBitXor, "^", 4},
    {BinaryKind::kBitAnd, "&", kBitAndPrecedence},
    {BinaryKind::kEqual, "==", kEqualityPrecedence},
    {BinaryKind::kNotEqual, "!=", kEqualityPrecedence},
    {BinaryKind::kLess, "<", kRelationPrecedence},
    {BinaryKind::kLessEqual, "<=", kRelationPrecedence},
    {BinaryKind::kGreater, ">", kRelationPrecedence},
    {BinaryKind::kGreaterEqual, ">=", kRelationPrecedence},
    {BinaryKind::kShiftLeft, "<<", kShiftPrecedence},
    {BinaryKind::kShiftRight, ">>", kShiftPrecedence},
    {BinaryKind::kAdd, "+", 9},
    {BinaryKind::kSubtract, "-", 9},
    {BinaryKind::kMultiply, "*", 10},
    {BinaryKind::kDivide, "/", 10},
    {BinaryKind::kModulo, "%", 10},
});

/// The two binary kinds that are written as calls.
struct BinaryFunction {
  BinaryKind kind;
  std::string_view name;
};

inline constexpr auto kBinaryFunctions = std::to_array<BinaryFunction>({
    {BinaryKind::kMin, "min"},
    {BinaryKind::kMax, "max"},
});

struct UnaryFunction {
  UnaryKind kind;
  std::string_view name;
};

/// `-` and `!` are prefix operators, not functions.
inline constexpr auto kUnaryFunctions = std::to_array<UnaryFunction>({
    {UnaryKind::kAbs, "abs"},
    {UnaryKind::kExp, "exp"},
    {UnaryKind::kLog, "log"},
    {UnaryKind::kSqrt, "sqrt"},
    {UnaryKind::kTanh, "tanh"},
});

struct VariableName {
  VariableKind kind;
  std::string_view name;
};

inline constexpr auto kVariableNames = std::to_array<VariableName>({
    {VariableKind::kBatch, "b"},
    {VariableKind::kHead, "h"},
    {VariableKind::kQuery, "q"},
    {VariableKind::kKey, "k"},
    {VariableKind::kScore, "s"},
    {VariableKind::kQueryLength, "q_len"},
    {VariableKind::kKeyLength, "kv_len"},
    {VariableKind::kQueryToken, "q_token"},
    {VariableKind::kKeyToken, "k_token"},
});

/// The row of `table` whose `kind` is the one given, or null.
template <typename Row, std::size_t kRows, typename Kind>
constexpr const Row* find_kind(const std::array<Row, kRows>& table, Kind kind) {
  for (const Row& row : table) {
    if (row.kind == kind) return &row;
  }
  return nullptr;
}

/// The row of `table` whose `name` is the one given, or null.
template <typename Row, std::size_t kRows>
constexpr const Row* find_name(const std::array<Row, kRows>& table, std::string_view name) {
  for (const Row& row : table) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace harrier
