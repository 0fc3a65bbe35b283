// Evaluates ir/expression.h for one key and a vector of queries.
//
// What does not vary over the vector stays scalar. What depends on neither the key nor the score is computed once a
// group of queries
// (`hoist`), outside the loops over keys.
#pragma once

#include <map>
#include <vector>

#include "codegen/cpu/kernel_builder.h"
#include "ir/lowered.h"

namespace harrier {

/// Fields of the row's arguments, loaded at the function's entry. Scalars.
struct RowValues {
  llvm::Value* batch;         // i32
  llvm::Value* head;          // i32
  llvm::Value* query_length;  // i32
  llvm::Value* key_length;    // i32
  llvm::Value* query_token;   // i32: packed index of the sequence's query 0
  llvm::Value* key_token;     // i32
  llvm::Value* arrays;
  llvm::Value* int_parameters;
  llvm::Value* float_parameters;
};

/// The pair at hand.
struct PairValues {
  llvm::Value* query = nullptr;         // i32 vector
  llvm::Value* key = nullptr;           // i32
  llvm::Value* score = nullptr;         // float vector
  llvm::Value* table_counts = nullptr;  // i32: KeyRun::table_counts
};

/// A value with its type in the language; a vector over queries or a scalar.
struct TypedValue {
  llvm::Value* value;
  ExpressionType type;
};

class ExpressionEmitter {
 public:
  ExpressionEmitter(KernelBuilder& builder, const LoweredPattern& lowered, const RowValues& row)
      : builder_(builder), lowered_(lowered), row_(row) {}

  /// Computes, for each query vector, every subexpression that depends on neither key nor score; later emit() calls
  /// reuse them. The insertion point must dominate those calls.
  void hoist(const Expression& expression, const Values& query_vectors);

  /// `vector_index` says which of hoist's query vectors `pair.query` is.
  TypedValue emit(const Expression& expression, const PairValues& pair, int vector_index);

  /// Where `load` reads: elements (i64) from the array's start, a vector where that varies over the queries.
  llvm::Value* element_offset(const Load& load, const PairValues& pair, int vector_index);

  /// Conversions by the language's rules.
  llvm::Value* as_float(const TypedValue& value);
  llvm::Value* as_int(const TypedValue& value);
  llvm::Value* as_bool(const TypedValue& value);

 private:
  TypedValue emit_node(const Expression& expression, const PairValues& pair, int vector_index);
  TypedValue emit_variable(VariableKind kind, const PairValues& pair);
  /// An element's offset in two parts: what is the same for all queries, and what is not (null where nothing is).
  struct ElementOffset {
    llvm::Value* uniform;
    llvm::Value* varying;
  };
  ElementOffset split_offset(const Load& load, const PairValues& pair, int vector_index);
  llvm::Value* bound_array(const Load& load);

  TypedValue emit_load(const Load& load, const PairValues& pair, int vector_index);
  TypedValue emit_unary(const Unary& unary, const PairValues& pair, int vector_index);
  TypedValue emit_binary(const Binary& binary, const PairValues& pair, int vector_index);
  TypedValue emit_select(const Select& select, const PairValues& pair, int vector_index);
  llvm::Value* emit_division(llvm::Value* left, llvm::Value* right, const Expression& divisor, bool modulo);
  void unify(llvm::Value*& left, llvm::Value*& right);

  KernelBuilder& builder_;
  const LoweredPattern& lowered_;
  const RowValues& row_;
  std::map<const Expression*, std::vector<TypedValue>> hoisted_;
};

/// True when the value may change from one key to the next.
bool varies_by_key(const Expression& expression);

/// The array's index in LoweredPattern::arrays (and in RowArguments::arrays).
int array_slot(const LoweredPattern& lowered, const std::string& name);

}  // namespace harrier
