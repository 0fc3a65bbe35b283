// `harrier run`: compiles, runs, compares.
#include <fmt/core.h>
#include <fmt/ostream.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <ostream>

#include "cli/backend.h"
#include "cli/commands.h"
#include "cli/convert.h"
#include "cli/output_file.h"
#include "cli/run_inputs.h"
#include "cli/run_output.h"
#include "cli/run_report.h"
#include "compiler/harrier.h"

namespace harrier {
namespace {

constexpr int kMostRepeats = 1'000'000;
constexpr int kMostThreads = 4096;

void check_options(const RunOptions& options) {
  if (options.backend != "cpu" && options.backend != "cuda" && options.backend != "auto") {
    throw InvalidInput(fmt::format("--backend {}: unknown: use cpu, cuda or auto", options.backend));
  }
  if (options.repeat < 1 || options.repeat > kMostRepeats) {
    throw InvalidInput(
        fmt::format("--repeat {}: must lie in 1 to {}: give the number of timed runs", options.repeat, kMostRepeats));
  }
  if (options.threads < 0 || options.threads > kMostThreads) {
    throw InvalidInput(
        fmt::format("--threads {}: must lie in 0 to {}: 0 takes every core", options.threads, kMostThreads));
  }
  if (!(options.tolerance >= 0) || !std::isfinite(options.tolerance)) {
    throw InvalidInput(fmt::format("--tolerance {}: must be 0 or more: give a finite number", options.tolerance));
  }
  const std::vector<std::string> names = pass_names();
  const bool is_pass = options.dump_after.empty() || options.dump_after == "all" ||
                       std::find(names.begin(), names.end(), options.dump_after) != names.end();
  if (!is_pass) {
    throw InvalidInput(fmt::format("--dump-after {}: no such pass: name one of {} or all", options.dump_after,
                                   fmt::join(names, ", ")));
  }
}

/// Where the output goes: --out, or back into the file that it is merged into.
const std::string& output_path(const RunOptions& options) {
  return options.out.empty() ? options.merge_into : options.out;
}

/// A long run must not end in a path that cannot be written. Nothing is left behind.
void check_outputs(const RunOptions& options) {
  if (!output_path(options).empty()) const OutputFile probe(output_path(options));
  if (!options.lse.empty()) const OutputFile probe(options.lse);
}

double microseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

/// Runs as often as asked; only the first run is dumped.
void run_repeatedly(const Runnable& kernel, const RunInputs& inputs, const Bindings& bindings,
                    const RunOptions& options, const PassObserver& observer, RunAccount& account) {
  std::vector<RunReport> reports;
  for (int i = 0; i < options.repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    reports.push_back(kernel.run(inputs.tensors, bindings, i == 0 ? observer : PassObserver{}));
    account.run_us.push_back(microseconds_since(start));
  }
  const double middle = median(account.run_us);
  const auto nearest = std::min_element(account.run_us.begin(), account.run_us.end(), [&](double left, double right) {
    return std::abs(left - middle) < std::abs(right - middle);
  });
  account.report = std::move(reports[nearest - account.run_us.begin()]);
}

}  // namespace

int run_command(const RunOptions& options, Streams& streams) {
  check_options(options);
  const Workload workload = read_workload(options.file);
  RunInputs inputs = make_run_inputs(options, workload);
  check_outputs(options);
  // Files are read before the work starts, so that a bad one costs nothing.
  std::optional<NpyArray> earlier;
  std::optional<NpyArray> expected;
  if (!options.merge_into.empty()) {
    earlier = read_output_like(inputs.out.shape, "--merge-into", options.merge_into);
  }
  if (!options.expect.empty()) expected = read_output_like(inputs.out.shape, "--expect", options.expect);
  const Geometry geometry = check_tensors(inputs.tensors, workload.shape);

  PassObserver observer{.dump_after = options.dump_after, .dump = {}, .times = nullptr};
  if (!options.dump_after.empty()) {
    observer.dump = [&](const std::string& name, const std::string& text) {
      fmt::print(streams.error, "after {}:\n{}\n", name, text);
    };
  }
  RunAccount account;
  const auto start = std::chrono::steady_clock::now();
  const Runnable kernel = compile_for(options, workload, observer, inputs.notes);
  account.compile_us = microseconds_since(start);

  const Workload& compiled = kernel.workload;
  const Bindings bindings = needed_by(compiled.pattern, inputs.arrays.bindings());
  run_repeatedly(kernel, inputs, bindings, options, observer, account);

  NpyArray out = in_dtype(std::move(inputs.out), DataType::kFloat32, "output");
  if (earlier) keep_hidden_rows(out, inputs.lse, *earlier);
  if (expected) account.comparison = compare(out, *expected);
  if (const std::string& path = output_path(options); !path.empty()) {
    write_npy(path, out.view());
    account.written.push_back(path);
  }
  if (!options.lse.empty()) {
    write_npy(options.lse, inputs.lse.view());
    account.written.push_back(options.lse);
  }

  account.canonical = canonical_text(compiled.pattern, compiled.shape);
  account.backend = kernel.backend;
  account.plan = kernel.plan;
  account.compile_times = kernel.compile_times;
  account.sequences = static_cast<int64_t>(geometry.sequences.size());
  account.query_tokens = geometry.query_tokens;
  account.key_tokens = geometry.key_tokens;
  account.visible_pairs = count_visible_pairs(compiled.pattern, compiled.shape, geometry, bindings);
  account.useful_flops = 2.0 * static_cast<double>(compiled.shape.head_dim + compiled.shape.value_dim) *
                         static_cast<double>(account.visible_pairs);
  account.notes = inputs.notes;
  if (options.json) {
    print_run_json(options, account, streams.out);
  } else {
    for (const std::string& note : account.notes) fmt::print(streams.error, "harrier: note: {}\n", note);
    print_run(options, workload.shape, account, streams.out);
  }
  const bool is_within = !account.comparison || account.comparison->max_error <= options.tolerance;
  return is_within ? kSuccess : kOutsideTolerance;
}

}  // namespace harrier
