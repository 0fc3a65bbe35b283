// Integer and floating-point expressions: the bodies of where(...) and score(...), and what every mask is lowered to.
//
// Semantics, once:
//  * Types are bool, int32 and float32; a bool used as a number is 0 or 1, an int beside a float becomes a float.
//    Comparisons and logic give bool. `&&` and `||` evaluate both sides (there are no side effects).
//  * Integer + - * wrap at 32 bits. `/` and `%` round towards minus infinity (so -1 / 4 == -1 and -1 % 4 == 3);
//    dividing by zero gives 0. Shifts take the count modulo 32; `>>` keeps the sign.
//  * Positions are those inside the own sequence: q counts from 0 in the queries, k from 0 in the keys.
//  * An index is proved in range when arrays are bound; what cannot be proved is refused there, so no load is ever
//    out of bounds.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "ir/box.h"

namespace harrier {

struct Expression;

struct IntLiteral {
  int64_t value;
  bool operator==(const IntLiteral&) const = default;
};

struct FloatLiteral {
  double value;
  bool operator==(const FloatLiteral&) const = default;
};

enum class VariableKind {
  kBatch,        // b: batch row
  kHead,         // h: query head
  kQuery,        // q: query position inside its sequence
  kKey,          // k: key position inside its sequence
  kScore,        // s: the score so far (only in score(...))
  kQueryLength,  // q_len: extent of the sequence's queries
  kKeyLength,    // kv_len: extent of the sequence's keys
  kQueryToken,   // q_token: the query's place in the packed token order of the batch
  kKeyToken,     // k_token: the key's place in the packed token order of the batch
};

struct Variable {
  VariableKind kind;
  bool operator==(const Variable&) const = default;
};

/// `@array[i, j]`; with no indices, `@array` is a scalar bound at launch.
/// Elements are int32 in where(...) and inside indices, float32 elsewhere in score(...).
struct Load {
  std::string array;
  std::vector<Expression> indices;
  bool is_float = false;
  bool operator==(const Load&) const = default;
};

enum class UnaryKind { kNegate, kNot, kAbs, kExp, kLog, kSqrt, kTanh };

struct Unary {
  UnaryKind kind;
  Box<Expression> operand;
  bool operator==(const Unary&) const = default;
};

enum class BinaryKind {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kModulo,
  kMin,
  kMax,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kEqual,
  kNotEqual,
  kAnd,
  kOr,
  kBitAnd,
  kBitOr,
  kBitXor,
  kShiftLeft,
  kShiftRight,
};

struct Binary {
  BinaryKind kind;
  Box<Expression> left;
  Box<Expression> right;
  bool operator==(const Binary&) const = default;
};

/// `select(condition, if_true, if_false)`
struct Select {
  Box<Expression> condition;
  Box<Expression> if_true;
  Box<Expression> if_false;
  bool operator==(const Select&) const = default;
};

/// A number of the pattern (a window's width, a scale) that the kernel takes as an argument, so that changing it
/// recompiles nothing. Made by lowering; has no text form in the language.
struct Parameter {
  int index;
  bool is_float = false;
  bool operator==(const Parameter&) const = default;
};

/// How often block table `slot` lists the key tile at hand: one number a tile, found by the classifier and carried by
/// the key run. Made by lowering; has no text form in the language.
struct TileCount {
  int slot;
  bool operator==(const TileCount&) const = default;
};

struct Expression {
  std::variant<IntLiteral, FloatLiteral, Variable, Load, Unary, Binary, Select, Parameter, TileCount> node;
  bool operator==(const Expression&) const = default;
};

enum class ExpressionType { kBool, kInt, kFloat };

/// The type of `expression` by the rules above.
ExpressionType type_of(const Expression& expression);

/// Builders, so that C++ reads like the text: `q() - k() < constant(256)` after `using namespace harrier::var`.
namespace var {
inline Expression b() { return {Variable{VariableKind::kBatch}}; }
inline Expression h() { return {Variable{VariableKind::kHead}}; }
inline Expression q() { return {Variable{VariableKind::kQuery}}; }
inline Expression k() { return {Variable{VariableKind::kKey}}; }
inline Expression s() { return {Variable{VariableKind::kScore}}; }
inline Expression q_len() { return {Variable{VariableKind::kQueryLength}}; }
inline Expression kv_len() { return {Variable{VariableKind::kKeyLength}}; }
inline Expression q_token() { return {Variable{VariableKind::kQueryToken}}; }
inline Expression k_token() { return {Variable{VariableKind::kKeyToken}}; }
}  // namespace var

Expression constant(int64_t value);
Expression constant(double value);
Expression load(std::string array, std::vector<Expression> indices, bool is_float = false);
Expression unary(UnaryKind kind, Expression operand);
Expression binary(BinaryKind kind, Expression left, Expression right);
Expression select(Expression condition, Expression if_true, Expression if_false);

Expression operator+(Expression left, Expression right);
Expression operator-(Expression left, Expression right);
Expression operator*(Expression left, Expression right);
Expression operator/(Expression left, Expression right);
Expression operator%(Expression left, Expression right);
Expression operator<(Expression left, Expression right);
Expression operator<=(Expression left, Expression right);
Expression operator>(Expression left, Expression right);
Expression operator>=(Expression left, Expression right);
Expression operator&&(Expression left, Expression right);
Expression operator||(Expression left, Expression right);
Expression operator!(Expression operand);
/// `==` compares trees (value semantics), so equality in the language is spelled out.
Expression equal(Expression left, Expression right);
Expression not_equal(Expression left, Expression right);

}  // namespace harrier
