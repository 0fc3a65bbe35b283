// The whole command line as data for CLI11, and the one place where errors become exit codes.
#include <fmt/core.h>
#include <fmt/ostream.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <new>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string_view>

#include "cli/cache_commands.h"
#include "cli/commands.h"
#include "cli/export_command.h"
#include "cli/json_text.h"
#include "cli/tuning_arguments.h"
#include "compiler/pipeline.h"
#include "ir/error.h"
#include "ir/nearest_name.h"

namespace harrier {
namespace {

constexpr const char* kVersion = "harrier 0.1.0";

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 outside tolerance, 2 bad input (one line on stderr says which and what to do),\n"
    "3 the toolchain or the GPU failed, 70 a bug of ours.";

constexpr const char* kExamples = R"(Examples:
  harrier check bigbird.attn
  harrier show bigbird.attn --lengths 1024 --svg bigbird.svg
  harrier run bigbird.attn --repeat 5
  harrier run bigbird.attn --q q.npy --k k.npy --v v.npy --bind table=table.npy --expect out.npy

)";

constexpr const char* kCheckHelp =
    R"(Prints the canonical text of each file (what caches key on) and every array that must be bound, with its role
and shape. All files are checked, also after a bad one.

Example:
  harrier check patterns/*.attn)";

constexpr const char* kShowHelp =
    R"(Tiles are empty (··, skipped), full (██, no mask evaluated) or partial (▒▒); the bar on the right is the keys that
a row of tiles goes through. Lengths too long for the terminal are shrunk by whole tiles. Names that are not bound
get random arrays of the right shape, and a note says so.

Examples:
  harrier show longformer.attn --lengths 4096
  harrier show causal.attn --lengths 24 --tile 1x1      draws every single pair
  harrier show bigbird.attn --batch-row 3 --head 5 --bind table=table.npy --svg bigbird.svg)";

constexpr const char* kEmitHelp = R"(Examples:
  harrier emit bigbird.attn
  harrier emit bigbird.attn --llvm -o bigbird.ll
  harrier emit bigbird.attn --cuda --arch sm_80)";

constexpr const char* kRunHelp =
    R"(Arrays are .npy files, row-major: padded [batch, heads, length, dim], with --lengths for the valid lengths; or packed
[tokens, heads, dim] with --cu-seqlens (batch + 1 rising offsets from 0 to the number of tokens). Any float type is
converted to the workload's dtype, and a note says so; bfloat16 is '<V2', or uint16 for a bf16 workload.
Without arrays, a packed batch of random ones is made from the workload's `lengths` and `batch`, and random arrays for
names that are not bound. With arrays, every @name of the pattern must be bound.

--out and --lse are written as float32, whole or not at all. --merge-into FILE keeps the rows of FILE that see no key
here (LSE of minus infinity) and overwrites the others; the result goes to --out, or back into FILE. So one output
can be made from two patterns, as Longformer needs for its global rows:
  harrier run local.attn  --q q.npy  --k k.npy  --v v.npy  --out o.npy
  harrier run global.attn --q qg.npy --k kg.npy --v vg.npy --bind tokens=tokens.npy --merge-into o.npy --expect ref.npy

With --backward the forward pass runs once, then gradients of sum(out x d_out) are computed as often as --repeat says:
of q, k, v and of every float array that the scores or the softmax read. --expect-gradients compares those whose files
are there.
  harrier run window.attn --backward --d-out do.npy --q q.npy --k k.npy --v v.npy --gradients grad_

--expect compares everywhere: |a - b| <= tolerance x max(1, |b|).
The first run touches fresh memory: give --repeat 5 or more for times worth quoting. Useful flops are
2 x (head_dim + value_dim) x visible pairs; times count everything from the call to its return.)";

/// Vector options of CLI11 take every word that follows; ours take one each time they are named.
CLI::Option* add_bindings(CLI::App& command, std::vector<std::string>& bindings) {
  return command.add_option("--bind", bindings, "Array for @NAME of the pattern; may be given several times")
      ->type_name("NAME=FILE")
      ->allow_extra_args(false);
}

std::vector<BindOption> split_bindings(const std::vector<std::string>& texts) {
  std::vector<BindOption> bindings;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
      throw InvalidInput(fmt::format("--bind {}: not NAME=FILE: --bind table=table.npy, say", text));
    }
    // The pattern writes @name: forgive who writes it here too.
    const std::string name = text.substr(0, equals);
    bindings.push_back({.name = name[0] == '@' ? name.substr(1) : name, .path = text.substr(equals + 1)});
  }
  return bindings;
}

void add_json(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print one JSON object on stdout, and nothing else there");
}

CLI::App* add_check(CLI::App& app, CheckOptions& options) {
  CLI::App* command = app.add_subcommand("check", "Check .attn files, print what they mean and what must be bound");
  command->add_option("files", options.files, "Workloads")->type_name("FILE.attn")->required();
  add_json(*command, options.json);
  command->footer(kCheckHelp);
  return command;
}

CLI::App* add_show(CLI::App& app, ShowOptions& options, std::vector<std::string>& bindings) {
  CLI::App* command = app.add_subcommand("show", "Draw the mask's tiles in the terminal and as SVG");
  command->add_option("file", options.file, "Workload")->type_name("FILE.attn")->required();
  command
      ->add_option("--lengths", options.length, "Length of the sequence to draw (else a row of the workload's batch)")
      ->type_name("N");
  command->add_option("--key-lengths", options.key_length, "Number of keys, where it is not that of the queries")
      ->type_name("N");
  command->add_option("--batch-row", options.batch_row, "Row of the batch that `lengths` draws (default 0)")
      ->type_name("I");
  command->add_option("--head", options.head, "Query head (default 0)")->type_name("H");
  add_bindings(*command, bindings);
  command->add_option("--tile", options.tile, "Queries x keys of a tile (default: the plan's)")->type_name("64x64");
  command->add_option("--svg", options.svg, "Draw into this file too")->type_name("FILE.svg");
  command->add_option("--width", options.width, "Characters to a line (default: the terminal's)")->type_name("COLUMNS");
  command->add_option("--seed", options.seed, "Of lengths and arrays drawn at random (default 1)")->type_name("S");
  add_json(*command, options.json);
  command->footer(kShowHelp);
  return command;
}

CLI::App* add_emit(CLI::App& app, EmitOptions& options, bool& canonical) {
  CLI::App* command =
      app.add_subcommand("emit", "Print the canonical pattern, or the LLVM IR or CUDA source of the kernel");
  command->add_option("file", options.file, "Workload")->type_name("FILE.attn")->required();
  CLI::Option* text = command->add_flag("--canonical", canonical, "The text that caches key on (the default)");
  CLI::Option* llvm = command->add_flag("--llvm", options.llvm, "The LLVM IR of the CPU kernel for this machine");
  CLI::Option* cuda = command->add_flag("--cuda", options.cuda, "The CUDA source of the GPU kernel; needs no GPU");
  llvm->excludes(text);
  cuda->excludes(text)->excludes(llvm);
  command->add_option("--arch", options.architecture, "GPU architecture of --cuda (default sm_90a)")
      ->type_name("sm_NN")
      ->needs(cuda);
  command->add_option("-o,--output", options.output, "Write to this file instead of stdout")->type_name("FILE");
  add_json(*command, options.json);
  command->footer(kEmitHelp);
  return command;
}

CLI::App* add_run(CLI::App& app, RunOptions& options, std::vector<std::string>& bindings) {
  CLI::App* command = app.add_subcommand("run", "Compile, run on arrays, compare with a reference");
  const auto add_file = [&](const char* name, std::string& path, const char* what) {
    command->add_option(name, path, what)->type_name("FILE.npy");
  };
  command->add_option("file", options.file, "Workload")->type_name("FILE.attn")->required();
  add_file("--q", options.q, "Queries");
  add_file("--k", options.k, "Keys");
  add_file("--v", options.v, "Values");
  add_file("--lengths", options.lengths, "Valid lengths of padded arrays, integers [batch]");
  add_file("--key-lengths", options.key_lengths, "Those of the keys, where they differ");
  add_file("--cu-seqlens", options.cu_seqlens, "Offsets of packed arrays, integers [batch + 1]");
  add_file("--key-cu-seqlens", options.key_cu_seqlens, "Those of the keys, where they differ");
  add_bindings(*command, bindings);
  add_file("--out", options.out, "Write the output");
  add_file("--lse", options.lse, "Write the logarithm of the softmax's denominator");
  add_file("--merge-into", options.merge_into, "Keep this file's rows where no key is visible");
  add_file("--expect", options.expect, "Compare the output with this file");
  command->add_flag("--backward", options.backward, "Gradients too (a file with direction backward says so itself)");
  command->add_flag("--deterministic", options.deterministic, "Gradients with the same bits every time");
  add_file("--d-out", options.d_out, "Gradient of the output (default: drawn at random)");
  command->add_option("--gradients", options.gradients, "Write PREFIXd_q.npy, d_k, d_v, and d_NAME of float arrays")
      ->type_name("PREFIX");
  command->add_option("--expect-gradients", options.expect_gradients, "Compare with PREFIXd_q.npy and so on")
      ->type_name("PREFIX");
  command->add_option("--tolerance", options.tolerance, "Of the comparison (default 1e-4)")->type_name("X");
  command->add_option("--backend", options.backend, "cpu, cuda or auto (default auto)")->type_name("NAME");
  command->add_option("--repeat", options.repeat, "Runs to take the median of (default 1)")->type_name("N");
  command->add_option("--threads", options.threads, "Threads (default: every core)")->type_name("N");
  command->add_flag("--no-cache", options.no_cache, "Compile anew, past every cache: for measuring compile time");
  command->add_option("--seed", options.seed, "Of what is drawn at random (default 1)")->type_name("S");
  command
      ->add_option("--dump-after", options.dump_after,
                   fmt::format("Print what a pass made on stderr: {} or all", fmt::join(pass_names(), ", ")))
      ->type_name("PASS");
  add_json(*command, options.json);
  command->footer(kRunHelp);
  return command;
}

CLI::App* add_doctor(CLI::App& app, DoctorOptions& options) {
  CLI::App* command = app.add_subcommand("doctor", "Say what this machine can run kernels on, and what is missing");
  add_json(*command, options.json);
  return command;
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

/// Everything CLI11 fills in.
struct ParsedOptions {
  CheckOptions check;
  ShowOptions show;
  EmitOptions emit;
  RunOptions run;
  CacheOptions cache;
  DoctorOptions doctor;
  ExportCommandOptions exports;
  TuningArguments tuning;
  bool is_canonical = false;
  std::vector<std::string> show_bindings;
  std::vector<std::string> run_bindings;
};

/// A misspelled command, before CLI11 calls it an unexpected argument.
void check_command_name(const std::vector<std::string>& arguments) {
  const std::vector<std::string_view> known{"check", "show",        "emit",    "run",    "cache", "export",
                                            "tune",  "tune-worker", "explain", "report", "doctor"};
  if (arguments.empty()) throw InvalidInput("no command given: harrier --help lists them");
  const std::string& name = arguments.front();
  if (name.starts_with('-') || std::find(known.begin(), known.end(), name) != known.end()) return;
  const std::string_view nearest = nearest_name(name, known);
  throw InvalidInput(nearest.empty() ? fmt::format("unknown command {}: harrier --help lists them", name)
                                     : fmt::format("unknown command {}: did you mean {}?", name, nearest));
}

int dispatch(const std::vector<std::string>& arguments, Streams& streams) {
  check_command_name(arguments);
  ParsedOptions options;
  CLI::App app("Harrier compiles a description of sparse attention into one fused kernel, and runs it.", "harrier");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  app.footer(std::string(kExamples) + kExitCodes);
  const CLI::App* check = add_check(app, options.check);
  const CLI::App* show = add_show(app, options.show, options.show_bindings);
  const CLI::App* emit = add_emit(app, options.emit, options.is_canonical);
  add_run(app, options.run, options.run_bindings);
  const CLI::App* cache = add_cache(app, options.cache);
  const CLI::App* exports = add_export(app, options.exports);
  const CLI::App* doctor = add_doctor(app, options.doctor);
  const TuningCommands tuning = add_tuning_commands(app, options.tuning);

  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    streams.out << app.help();
    return kSuccess;
  } catch (const CLI::CallForVersion&) {
    streams.out << kVersion << '\n';
    return kSuccess;
  } catch (const CLI::ParseError& error) {
    const std::vector<CLI::App*> chosen = app.get_subcommands();
    const std::string command = chosen.empty() ? "" : " " + chosen.front()->get_name();
    throw InvalidInput(fmt::format("{}: harrier{} --help lists what it takes", one_line(error.what()), command));
  }
  if (check->parsed()) return check_command(options.check, streams);
  if (cache->parsed()) return cache_command(options.cache, streams);
  if (doctor->parsed()) return doctor_command(options.doctor, streams);
  if (exports->parsed()) return export_command(options.exports, streams);
  options.tuning.tune.bindings = split_bindings(options.tuning.tune_bindings);
  if (tuning.tune->parsed()) return tune_command(options.tuning.tune, streams);
  if (tuning.tune_worker->parsed()) return tune_worker_command(options.tuning.tune, streams);
  if (tuning.explain->parsed()) return explain_command(options.tuning.explain, streams);
  if (tuning.report->parsed()) return report_command(options.tuning.report, streams);
  if (emit->parsed()) return emit_command(options.emit, streams);
  if (show->parsed()) {
    options.show.bindings = split_bindings(options.show_bindings);
    return show_command(options.show, streams);
  }
  options.run.bindings = split_bindings(options.run_bindings);
  return run_command(options.run, streams);
}

int report_failure(const std::string& message, ExitCode code, bool is_json, Streams& streams) {
  fmt::print(streams.error, "harrier: {}\n", message);
  if (is_json) print_json({{"error", message}, {"exit_code", static_cast<int>(code)}}, streams.out);
  return code;
}

}  // namespace

int run_command_line(const std::vector<std::string>& arguments, Streams& streams) {
  const bool is_json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  try {
    const int code = dispatch(arguments, streams);
    streams.out.flush();
    if (!streams.out) return report_failure("stdout cannot be written: is the disk full?", kBadInput, false, streams);
    return code;
  } catch (const InvalidInput& error) {
    return report_failure(error.what(), kBadInput, is_json, streams);
  } catch (const ToolchainError& error) {
    const int code = report_failure(error.what(), kToolchainFailed, is_json, streams);
    if (!error.log().empty()) fmt::print(streams.error, "{}\n", error.log());
    return code;
  } catch (const DeviceError& error) {
    return report_failure(error.what(), kToolchainFailed, is_json, streams);
  } catch (const std::bad_alloc&) {
    return report_failure("out of memory: lower lengths or batch", kBadInput, is_json, streams);
  } catch (const std::exception& error) {
    return report_failure(one_line(error.what()), kInternalFailure, is_json, streams);
  }
}

}  // namespace harrier
