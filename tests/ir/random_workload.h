// Random workloads that verify() accepts: every clause, atom, score step and expression of the language.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "ir/text.h"
#include "ir/workload.h"

namespace harrier {

class WorkloadGenerator {
 public:
  explicit WorkloadGenerator(uint64_t seed) : random_(seed) {}

  Workload workload(int depth);
  Mask mask(int depth);
  Expression expression(int depth, ExpressionUse use);
  LengthDistribution lengths();

 private:
  int64_t integer(int64_t min, int64_t max);
  bool coin() { return integer(0, 1) == 1; }
  double number();
  double positive_number();
  int64_t bound();
  std::string fresh_array();
  Mask atom();
  Mask block_atom();
  Expression integers(int depth);
  Expression floats(int depth);
  Expression condition(int depth, ExpressionUse use);
  Expression index_load(bool is_float, int depth);
  Pattern pattern(int depth);
  Shape shape();

  std::mt19937_64 random_;
  int arrays_ = 0;
  int block_atoms_ = 0;
};

}  // namespace harrier
