// NVRTC, found at run time: CUDA source in, machine code out, without a GPU and without CUDA's headers.
#pragma once

#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace harrier::cuda {

struct NvrtcApi;  // internal

struct Nvrtc {
  std::shared_ptr<const NvrtcApi> api;
  std::string path;  // of the library that was found
  int major = 0;
  int minor = 0;
  std::string file = {};      // where it lies, links resolved
  std::string build_id = {};  // names this build of it
};

/// `path` is tried alone when given; else $HARRIER_NVRTC, then libnvrtc.so of CUDA 13 and 12 where the loader,
/// $CUDA_HOME and /usr/local/cuda have it. Throws ToolchainError: where it looked, how to get one.
Nvrtc load_nvrtc(const std::string& path = {});

/// Everything that a search for NVRTC depends on, as text: while it and the file that was found stay the same, so does
/// what would be found again.
std::string nvrtc_wish(const std::string& path = {});

/// NVRTC, loaded when it is first needed: machine code that is there already needs none. Copies share it.
class LazyNvrtc {
 public:
  /// `path` as load_nvrtc takes it.
  explicit LazyNvrtc(std::string path = {});
  LazyNvrtc(Nvrtc loaded);  // implicit: one that is loaded will do where one is to be

  /// Throws as load_nvrtc does; then the next call tries again.
  const Nvrtc& get() const;
  operator const Nvrtc&() const { return get(); }
  const Nvrtc* operator->() const { return &get(); }

  bool is_loaded() const;
  const std::string& path() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// What is passed to every compile beside the architecture, as far as it decides the code.
std::string_view nvrtc_code_options();

/// A file that a source includes by `name`.
struct IncludedFile {
  std::string_view name;
  std::string_view text;
};

struct CudaSource {
  std::string_view text;
  std::span<const IncludedFile> includes = {};
  std::string architecture;  // "sm_90a": machine code; "compute_80": PTX
  bool use_cache = true;     // false when compile time is measured
  std::stop_token stop = {};
};

/// What ptxas said of one entry and the functions that it calls.
struct EntryUse {
  std::string name;
  int registers = 0;
  int stack_bytes = 0;
  int spill_bytes = 0;
};

struct CudaBinary {
  std::vector<char> image;  // cubin, or PTX text ending in a zero
  std::string log;
  std::vector<EntryUse> entries;
  std::vector<std::string> notes;  // lines that speak of serialised warpgroup products (C7510 to C7519)
  double compile_us = 0;
};

/// Compiles one program; safe from several threads at once. The same source gives the same bytes. Throws ToolchainError
/// with NVRTC's log, also when `stop` is requested meanwhile.
CudaBinary compile(const Nvrtc& nvrtc, const CudaSource& source);

/// Compiles several on as many threads as cores and free memory allow. A failure of one is its own: results are in
/// order, each a binary or the error's message.
struct CompileResult {
  CudaBinary binary;
  std::string error;  // empty when it compiled
};
std::vector<CompileResult> compile_all(const Nvrtc& nvrtc, std::span<const CudaSource> sources);

/// What ptxas and the optimizer wrote, as data. Pure; the log is NVRTC's with --ptxas-options=-v.
std::vector<EntryUse> entries_of_log(const std::string& log);
std::vector<std::string> notes_of_log(const std::string& log);

}  // namespace harrier::cuda
