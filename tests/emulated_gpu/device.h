// For tests: a context on the emulated GPU, buffers, and kernels from source.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "driver_api.h"

namespace harrier::test {

/// Throws where the result is not success, with the name of the error.
void check(CUresult result);

/// An environment variable as long as it lives.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Setting() { unsetenv(name_); }

 private:
  const char* name_;
};

/// The first device's primary context, current on this thread. When it goes, so does a sticky error.
class Context {
 public:
  Context();
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
};

/// Device memory that holds `Element`s.
template <class Element>
class Buffer {
 public:
  explicit Buffer(std::size_t count) : count_(count) {
    if (count > 0) check(cuMemAlloc_v2(&address_, count * sizeof(Element)));
  }
  explicit Buffer(std::span<const Element> values) : Buffer(values.size()) {
    check(cuMemcpyHtoD_v2(address_, values.data(), values.size_bytes()));
  }
  explicit Buffer(const std::vector<Element>& values) : Buffer(std::span<const Element>(values)) {}
  ~Buffer() {
    if (address_ != 0) cuMemFree_v2(address_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  Element* data() const { return reinterpret_cast<Element*>(address_); }
  std::size_t size() const { return count_; }
  std::vector<Element> download() const {
    std::vector<Element> values(count_);
    check(cuMemcpyDtoH_v2(values.data(), address_, count_ * sizeof(Element)));
    return values;
  }

 private:
  CUdeviceptr address_ = 0;
  std::size_t count_;
};

/// What NVRTC makes of a source that may include the kernels of this repository.
struct Compiled {
  nvrtcResult result;
  std::string image;
  std::string log;
};
Compiled compile(const std::string& source, const std::string& architecture = "sm_90a");

/// A module's kernels, by name.
class Module {
 public:
  explicit Module(const std::string& source, const std::string& architecture = "sm_90a");
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  CUfunction kernel(const std::string& name) const;

 private:
  CUmodule module_ = nullptr;
};

struct Shape3 {
  unsigned x;
  unsigned y = 1;
  unsigned z = 1;
};

/// Launches with arguments of the kernel's own types and waits. Returns what the wait says.
template <class... Arguments>
CUresult launch(CUfunction kernel, Shape3 grid, unsigned threads, unsigned shared_bytes, Arguments... arguments) {
  if (shared_bytes > 48 * 1024) {
    check(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(shared_bytes)));
  }
  void* pointers[] = {static_cast<void*>(&arguments)..., nullptr};
  const CUresult result =
      cuLaunchKernel(kernel, grid.x, grid.y, grid.z, threads, 1, 1, shared_bytes, nullptr, pointers, nullptr);
  return result != CUDA_SUCCESS ? result : cuCtxSynchronize();
}

}  // namespace harrier::test
