#include "cli/run_report.h"

#include <fmt/core.h>
#include <fmt/ostream.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/json_text.h"

namespace harrier {
namespace {

std::string times_of(const std::vector<PassTime>& times) {
  std::string text;
  for (const PassTime& time : times) {
    text += fmt::format("{}{} {:.3f}", text.empty() ? "" : ", ", time.name, time.microseconds / 1e3);
  }
  return text;
}

nlohmann::ordered_json times_as_json(const std::vector<PassTime>& times) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const PassTime& time : times) json[time.name] = time.microseconds;
  return json;
}

double gigaflops(double flops, double microseconds) { return microseconds > 0 ? flops / microseconds / 1e3 : 0; }

double share(int64_t part, const TileCounts& tiles) {
  const int64_t all = tiles.full + tiles.partial + tiles.empty;
  return all == 0 ? 0 : static_cast<double>(part) / static_cast<double>(all);
}

bool is_within(const Comparison& comparison, double tolerance) { return comparison.max_error <= tolerance; }

double useful_flops(const RunAccount& account) {
  return static_cast<double>(account.flops_per_pair) * static_cast<double>(account.visible_pairs);
}

nlohmann::ordered_json comparison_as_json(const Comparison& comparison, double tolerance) {
  nlohmann::ordered_json json = {{"max_error", comparison.max_error},
                                 {"at", comparison.at},
                                 {"tolerance", tolerance},
                                 {"ok", is_within(comparison, tolerance)}};
  // JSON has no infinity.
  if (!std::isfinite(comparison.max_error)) json["max_error"] = "inf";
  return json;
}

}  // namespace

bool is_within(const RunAccount& account, double tolerance) {
  return std::ranges::all_of(account.comparisons,
                             [&](const NamedComparison& each) { return is_within(each.comparison, tolerance); });
}

double median(std::vector<double> values) {
  HARRIER_CHECK(!values.empty(), "a median is of at least one value");
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

void print_run(const RunOptions& options, const RunAccount& account, std::ostream& out) {
  const TileCounts& tiles = account.report.tiles;
  const double run_us = median(account.run_us);
  fmt::print(out, "compiled  {}\n", account.canonical);
  fmt::print(out, "backend   {}\n", account.backend);
  fmt::print(out, "plan      {}\n", account.plan);
  fmt::print(out, "compile   {:.3f} ms: {}\n", account.compile_us / 1e3, times_of(account.compile_times));
  fmt::print(out, "batch     {} sequences, {} queries, {} keys\n", account.sequences, account.query_tokens,
             account.key_tokens);
  fmt::print(out, "tiles     {:.1f} % skipped, {:.1f} % full, {:.1f} % partial of {}\n",
             100 * share(tiles.empty, tiles), 100 * share(tiles.full, tiles), 100 * share(tiles.partial, tiles),
             tiles.full + tiles.partial + tiles.empty);
  fmt::print(out, "run       {:.3f} ms, median of {}: {}, kernel {:.3f}\n", run_us / 1e3, account.run_us.size(),
             times_of(account.report.passes), account.report.kernel_us / 1e3);
  fmt::print(out, "speed     {:.1f} GFLOP/s: {} x {} visible pairs ({:.1f} in the kernel alone)\n",
             gigaflops(useful_flops(account), run_us), account.flops_formula, account.visible_pairs,
             gigaflops(useful_flops(account), account.report.kernel_us));
  for (const auto& [name, comparison] : account.comparisons) {
    fmt::print(out, "error     {}{}{:.3g} at [{}], {} tolerance {:g}\n", name, name.empty() ? "" : " ",
               comparison.max_error, fmt::join(comparison.at, ", "),
               is_within(comparison, options.tolerance) ? "within" : "OUTSIDE", options.tolerance);
  }
  for (const std::string& path : account.written) fmt::print(out, "wrote     {}\n", path);
}

void print_run_json(const RunOptions& options, const RunAccount& account, std::ostream& out) {
  const TileCounts& tiles = account.report.tiles;
  const double run_us = median(account.run_us);
  nlohmann::ordered_json json = {
      {"command", "run"},
      {"file", options.file},
      {"backend", account.backend},
      {"canonical", account.canonical},
      {"plan", account.plan},
      {"compile_us", account.compile_us},
      {"compile_steps_us", times_as_json(account.compile_times)},
      {"sequences", account.sequences},
      {"query_tokens", account.query_tokens},
      {"key_tokens", account.key_tokens},
      {"tiles", {{"skipped", tiles.empty}, {"full", tiles.full}, {"partial", tiles.partial}}},
      {"skipped_share", share(tiles.empty, tiles)},
      {"visible_pairs", account.visible_pairs},
      {"run_us", run_us},
      {"repeats_us", account.run_us},
      {"run_steps_us", times_as_json(account.report.passes)},
      {"kernel_us", account.report.kernel_us},
      {"gflops", gigaflops(useful_flops(account), run_us)},
      {"kernel_gflops", gigaflops(useful_flops(account), account.report.kernel_us)},
  };
  for (const auto& [name, comparison] : account.comparisons) {
    const nlohmann::ordered_json error = comparison_as_json(comparison, options.tolerance);
    (name.empty() ? json["expect"] : json["expect_gradients"][name]) = error;
  }
  json["written"] = account.written;
  json["notes"] = account.notes;
  print_json(json, out);
}

}  // namespace harrier
