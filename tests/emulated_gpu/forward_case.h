// For tests: a golden stub run on the emulated GPU with parameters filled by hand, beside a reference in fp64.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace harrier::test {

struct Sequence {
  int queries;
  int keys;
};

/// A key's place for the mask and the score of the reference.
struct Pair {
  int batch;
  int head;
  int query;
  int key;
  Sequence sequence;
};

struct ForwardCase {
  std::string stub;  // of tests/data/cuda
  std::vector<Sequence> sequences;
  bool packed = true;
  std::vector<int> valid;         // of padded sequences; empty = all
  std::optional<double> padding;  // what is added to the scores of keys past these; none = they are hidden
  bool pruned_as_zero = false;    // keys that the mask hides count exp(0)
  int heads = 4;
  int kv_heads = 2;
  bool bfloat16 = true;
  std::vector<int> integers;
  std::vector<float> floats;
  std::vector<std::vector<float>> float_arrays;  // in slots from `first_float_array` on
  std::vector<int> int_array;                    // in slot 0, where the stub has one
  bool folded = true;

  /// How often a query sees a key: 0 = not at all.
  std::function<int(const Pair&)> count;
  std::function<double(const Pair&, double)> score;  // from q . k; null = scaled by head_dim^-1/2
  std::function<double(int head)> sink;              // a logit; null = none

  // Lists of key boxes. How often a row (query tile) of a head has a box; null = the closed form.
  std::function<int(int batch, int head, int query_tile, int box)> boxes;
  bool evaluated = false;  // the predicate decides in listed boxes, so all of them are partial

  int split_tiles = 0;  // rows with more key tiles are split
  unsigned seed = 1;
};

/// What came out, against the reference: relative error of O, greatest error of LSE, places where one is finite and the
/// other is not, and bytes outside of O that changed.
struct Comparison {
  double output_error;
  double lse_error;
  int mismatched;
};

/// On a GPU for which the stub is made.
Comparison run(const ForwardCase& forward);

/// Fails the test where the result is further from the reference than 16 bits explain.
void expect_right(const ForwardCase& forward);

}  // namespace harrier::test
