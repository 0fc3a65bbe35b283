// For tests: lists and orders of one launch, built by the generated kernels.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "codegen/cuda/kernels/build_params.cuh"
#include "ir/cuda_plan.h"
#include "ir/geometry.h"
#include "ir/workload.h"
#include "support/random_pattern.h"

namespace harrier::test {

struct BuilderCase {
  Pattern pattern;
  Shape shape;
  Geometry geometry;
  CudaPlan plan;
  Bindings bindings;
  bool packed = true;
  bool raw_tables = false;    // hand tables over as they were bound, not as binding prepared them; lists lie anywhere
  bool shares_lists = false;  // one list for all heads and sequences, which are padded and equal
  bool sorted_documents = false;  // ids do not fall: documents are intervals
  bool reads_rows = true;         // fill BuiltRows::counts
  int entry_capacity = -1;        // of the lists; -1 = enough
  int split_tiles = 0x7fffffff;
  int split_capacity = 0;
  int heads_per_group = 1;
};

/// The boxes of a row, as kernels read them.
struct ListedRow {
  int begin;
  int partial_tiles;
  std::vector<int> entries;
};

struct BuiltRows {
  bool lists = false;
  std::vector<ListedRow> rows;  // [heads with lists of their own][places of lists]
  int list_rows_per_head = 0;
  int list_rows_per_batch = 0;
  int row_queries = 0;
  std::vector<int> counts;  // [head][place][query of the row][key]: how often kernels would count the key
  int keys = 0;             // of a row of `counts`
  bool overflow = false;

  std::vector<RowMeasure> measures;  // [measured heads][places]
  int places = 0;
  int rows_per_batch = 0;
  int measured_heads = 0;
  std::vector<WorkItem> order;
  std::vector<SplitRow> split_rows;
};

BuiltRows build_rows(const BuilderCase& test);

/// This mask with a plan that suits it, ragged lengths, and arrays that fit. `same_lengths`: as many keys as queries.
/// `owned` keeps the arrays.
BuilderCase random_builder_case(std::mt19937_64& random, const Mask& mask, bool same_lengths, RandomArrays& owned);

/// The block size that plans are chosen for; 0 without tables.
int64_t block_of(const Mask& mask);

/// Whether kernels of this case read lists.
bool wants_lists(const BuilderCase& test);

/// One line that tells the case apart in a failure.
std::string describe(const BuilderCase& test);

}  // namespace harrier::test
