// The account of a run, as text and as JSON.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/run_output.h"
#include "compiler/harrier.h"

namespace harrier {

/// A comparison; `name` is empty for the output of a forward run.
struct NamedComparison {
  std::string name;
  Comparison comparison;
};

struct RunAccount {
  std::string canonical;
  std::string backend;
  std::string plan;
  std::vector<PassTime> compile_times;
  double compile_us = 0;
  int64_t sequences = 0;
  int64_t query_tokens = 0;
  int64_t key_tokens = 0;
  std::vector<double> run_us;  // of each repeat: from call to return
  RunReport report;            // of the repeat whose time is nearest the median
  int64_t visible_pairs = 0;
  int64_t flops_per_pair = 0;
  std::string flops_formula;  // "2 x (64 + 64)"
  std::vector<NamedComparison> comparisons;
  std::vector<std::string> notes;
  std::vector<std::string> written;  // files
};

/// True when every comparison is within the tolerance.
bool is_within(const RunAccount& account, double tolerance);

/// The middle one, or the mean of the two in the middle.
double median(std::vector<double> values);

void print_run(const RunOptions& options, const RunAccount& account, std::ostream& out);
void print_run_json(const RunOptions& options, const RunAccount& account, std::ostream& out);

}  // namespace harrier
