// `harrier run`: compiles, runs, compares.
#include <fmt/core.h>
#include <fmt/ostream.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <optional>
#include <ostream>
#include <utility>

#include "cli/backend.h"
#include "cli/commands.h"
#include "cli/convert.h"
#include "cli/output_file.h"
#include "cli/run_gradients.h"
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

/// Options that belong to the other direction.
void check_direction_options(const RunOptions& options, bool is_backward) {
  const auto refuse = [](const char* option, const char* remedy) {
    throw InvalidInput(fmt::format("{} {}", option, remedy));
  };
  if (is_backward) {
    if (!options.expect.empty()) refuse("--expect", "compares an output: use --expect-gradients with --backward");
    for (const auto& [option, path] :
         {std::pair("--merge-into", options.merge_into), {"--out", options.out}, {"--lse", options.lse}}) {
      if (!path.empty()) refuse(option, "is for outputs: run forward for them, and leave it out with --backward");
    }
    return;
  }
  for (const auto& [option, path] : {std::pair("--d-out", options.d_out),
                                     {"--gradients", options.gradients},
                                     {"--expect-gradients", options.expect_gradients}}) {
    if (!path.empty()) refuse(option, "is for gradients: add --backward");
  }
  if (options.deterministic) refuse("--deterministic", "is for gradients, outputs are so anyway: add --backward");
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

int report(const RunOptions& options, const RunAccount& account, Streams& streams) {
  if (options.json) {
    print_run_json(options, account, streams.out);
  } else {
    for (const std::string& note : account.notes) fmt::print(streams.error, "harrier: note: {}\n", note);
    print_run(options, account, streams.out);
  }
  return is_within(account, options.tolerance) ? kSuccess : kOutsideTolerance;
}

double microseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

/// Runs as often as asked; only the first run is dumped.
void run_repeatedly(const std::function<RunReport(const PassObserver&)>& run, const RunOptions& options,
                    const PassObserver& observer, RunAccount& account) {
  std::vector<RunReport> reports;
  for (int i = 0; i < options.repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    reports.push_back(run(i == 0 ? observer : PassObserver{}));
    account.run_us.push_back(microseconds_since(start));
  }
  const double middle = median(account.run_us);
  const auto nearest = std::min_element(account.run_us.begin(), account.run_us.end(), [&](double left, double right) {
    return std::abs(left - middle) < std::abs(right - middle);
  });
  account.report = std::move(reports[nearest - account.run_us.begin()]);
}

PassObserver observer_of(const RunOptions& options, Streams& streams) {
  PassObserver observer{.dump_after = options.dump_after, .dump = {}, .times = nullptr};
  if (options.dump_after.empty()) return observer;
  observer.dump = [&streams](const std::string& name, const std::string& text) {
    fmt::print(streams.error, "after {}:\n{}\n", name, text);
  };
  return observer;
}

/// What both directions say of the workload and the batch.
RunAccount account_of(const Workload& compiled, const Geometry& geometry, const Bindings& bindings) {
  RunAccount account;
  account.canonical = canonical_text(compiled.pattern, compiled.shape);
  account.sequences = std::ssize(geometry.sequences);
  account.query_tokens = geometry.query_tokens;
  account.key_tokens = geometry.key_tokens;
  account.visible_pairs = count_visible_pairs(compiled.pattern, compiled.shape, geometry, bindings);
  return account;
}

int run_forward(const RunOptions& options, const Workload& workload, Streams& streams) {
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

  const PassObserver observer = observer_of(options, streams);
  const auto start = std::chrono::steady_clock::now();
  const Runnable kernel = compile_for(options, workload, observer, inputs.notes);
  const double compile_us = microseconds_since(start);

  const Shape& shape = kernel.workload.shape;
  const Bindings bindings = needed_by(kernel.workload.pattern, inputs.arrays.bindings());
  RunAccount account = account_of(kernel.workload, geometry, bindings);
  account.flops_per_pair = 2 * (shape.head_dim + shape.value_dim);
  account.flops_formula = fmt::format("2 x ({} + {})", shape.head_dim, shape.value_dim);
  account.backend = kernel.backend;
  account.plan = kernel.plan;
  account.compile_times = kernel.compile_times;
  account.compile_us = compile_us;
  run_repeatedly([&](const PassObserver& watch) { return kernel.run(inputs.tensors, bindings, watch); }, options,
                 observer, account);

  NpyArray out = in_dtype(std::move(inputs.out), DataType::kFloat32, "output");
  if (earlier) keep_hidden_rows(out, inputs.lse, *earlier);
  if (expected) account.comparisons.push_back({"", compare(out, *expected)});
  if (const std::string& path = output_path(options); !path.empty()) {
    write_npy(path, out.view());
    account.written.push_back(path);
  }
  if (!options.lse.empty()) {
    write_npy(options.lse, inputs.lse.view());
    account.written.push_back(options.lse);
  }
  account.notes = inputs.notes;
  return report(options, account, streams);
}

/// Forward once, for O and LSE; then backward as often as asked.
int run_backward(const RunOptions& options, Workload workload, Streams& streams) {
  workload.shape.direction = Direction::kForward;
  RunInputs inputs = make_run_inputs(options, workload);
  RunGradients gradients = make_run_gradients(options, workload, inputs);
  const Geometry geometry = check_tensors(inputs.tensors, workload.shape);
  check_gradients_can_be_written(options, gradients);
  const std::vector<std::pair<std::string, NpyArray>> expected = read_expected_gradients(options, gradients);

  const PassObserver observer = observer_of(options, streams);
  std::vector<std::string> forward_notes;  // the backward kernel's say the same
  const Runnable forward = compile_for(options, workload, {}, forward_notes);
  workload.shape.direction = Direction::kBackward;
  const auto start = std::chrono::steady_clock::now();
  const Runnable backward = compile_for(options, workload, observer, inputs.notes);
  const double compile_us = microseconds_since(start);

  const Shape& shape = backward.workload.shape;
  const Bindings bindings = needed_by(backward.workload.pattern, inputs.arrays.bindings());
  RunAccount account = account_of(backward.workload, geometry, bindings);
  // S and dK and dQ over the head dim, dP and dV over that of the values.
  account.flops_per_pair = 2 * (3 * shape.head_dim + 2 * shape.value_dim);
  account.flops_formula = fmt::format("2 x (3 x {} + 2 x {})", shape.head_dim, shape.value_dim);
  account.backend = backward.backend;
  account.plan = backward.plan;
  account.compile_times = backward.compile_times;
  account.compile_us = compile_us;
  forward.run(inputs.tensors, bindings, {});
  run_repeatedly(
      [&](const PassObserver& watch) {
        return backward.run_backward(inputs.tensors, gradients.views, bindings, watch);
      },
      options, observer, account);

  for (const auto& [name, array] : gradients_as_float(gradients)) {
    for (const auto& [expected_name, reference] : expected) {
      if (expected_name == name) account.comparisons.push_back({name, compare(array, reference)});
    }
    if (options.gradients.empty()) continue;
    account.written.push_back(gradient_path(options.gradients, name));
    write_npy(account.written.back(), array.view());
  }
  account.notes = inputs.notes;
  return report(options, account, streams);
}

}  // namespace

int run_command(const RunOptions& options, Streams& streams) {
  check_options(options);
  Workload workload = read_workload(options.file);
  workload.shape.deterministic = workload.shape.deterministic || options.deterministic;
  const bool is_backward = options.backward || workload.shape.direction == Direction::kBackward;
  check_direction_options(options, is_backward);
  return is_backward ? run_backward(options, workload, streams) : run_forward(options, workload, streams);
}

}  // namespace harrier
