// The commands, each a function of its options: main() and the tests call the same code.
//
// Results go to `out`, notes and errors to `error`. With `json`, `out` gets one JSON object and nothing else. Commands
// throw InvalidInput, ToolchainError and DeviceError; run_command_line turns those into exit codes.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "compiler/pass_list.h"

namespace harrier {

/// Where a command writes, and what it may assume of the reader.
struct Streams {
  std::ostream& out;
  std::ostream& error;
  bool has_color = false;
  int columns = 80;
  std::string program = {};  // this one, to be run again for work that may die; empty: it is done in this process
};

/// Exit codes: what scripts may rely on.
enum ExitCode : int {
  kSuccess = 0,
  kOutsideTolerance = 1,
  kBadInput = 2,
  kToolchainFailed = 3,
  kInternalFailure = 70,
};

/// `--bind NAME=file.npy`
struct BindOption {
  std::string name;
  std::string path;
};

struct CheckOptions {
  std::vector<std::string> files;
  bool json = false;
};

struct ShowOptions {
  std::string file;
  std::optional<int64_t> length;      // of the one sequence drawn; else a row of the drawn batch
  std::optional<int64_t> key_length;  // default: as length
  int64_t batch_row = 0;
  int64_t head = 0;
  std::vector<BindOption> bindings;
  std::optional<std::string> tile;  // "64x64"
  std::string svg;
  std::optional<int> width;
  uint64_t seed = 1;
  bool json = false;
};

struct EmitOptions {
  std::string file;
  bool llvm = false;
  bool cuda = false;
  std::string architecture = "sm_90a";  // of --cuda
  std::string output;
  bool json = false;
};

struct RunOptions {
  std::string file;
  std::string q;
  std::string k;
  std::string v;
  std::string lengths;
  std::string key_lengths;
  std::string cu_seqlens;
  std::string key_cu_seqlens;
  std::vector<BindOption> bindings;
  std::string out;
  std::string lse;
  std::string merge_into;
  std::string expect;
  bool backward = false;         // gradients too; a workload with direction backward asks for them by itself
  bool deterministic = false;    // the same bits every time; a workload may ask for that by itself, too
  std::string d_out;             // of the output; else drawn at random
  std::string gradients;         // prefix of the files to write: PREFIXd_q.npy, ...
  std::string expect_gradients;  // prefix of the files to compare with
  double tolerance = 1e-4;
  std::string backend = "auto";
  int repeat = 1;
  int threads = 0;
  bool no_cache = false;  // compile anew, past NVRTC's own cache
  uint64_t seed = 1;
  std::string dump_after;
  bool json = false;
};

struct DoctorOptions {
  bool json = false;
};

int check_command(const CheckOptions& options, Streams& streams);
int show_command(const ShowOptions& options, Streams& streams);
int emit_command(const EmitOptions& options, Streams& streams);
int run_command(const RunOptions& options, Streams& streams);
int doctor_command(const DoctorOptions& options, Streams& streams);

/// Everything after the program's name; returns the exit code. Throws nothing.
int run_command_line(const std::vector<std::string>& arguments, Streams& streams);

}  // namespace harrier
