#include "exported_library.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "support/setting.h"
#include "test_gpu.h"

namespace harrier::test {
namespace {

template <typename Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  ASSERT_NE(function, nullptr) << name;
}

}  // namespace

ExportedLibrary::ExportedLibrary(const std::vector<ExportWorkload>& workloads,
                                 const std::vector<std::string>& architectures) {
  report_ = export_kernels(workloads, gpu().nvrtc, {.architectures = architectures, .folder = folder_.path()});
  const std::string path = folder_ / "kernels.so";
  const std::string command = fmt::format(
      "cc -std=c11 -O1 -Wall -Wextra -Wpedantic -Werror -shared -fPIC -o {0}/kernels.so "
      "{0}/harrier_kernels.c -ldl",
      folder_.path());
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) throw InternalError(dlerror());
  find(library_, "harrier_kernels_open", open);
  find(library_, "harrier_kernels_close", close);
  find(library_, "harrier_kernels_workspace", workspace);
  find(library_, "harrier_kernels_launch", launch);
  find(library_, "harrier_kernels_backward", backward);
  find(library_, "harrier_kernels_choice", choice);
  find(library_, "harrier_kernels_name", name);
}

ExportedLibrary::~ExportedLibrary() {
  if (kernels_ != nullptr) close(kernels_);
  if (library_ != nullptr) dlclose(library_);
}

harrier_kernels* ExportedLibrary::kernels() {
  if (kernels_ == nullptr) {
    const char* wanted = std::getenv("HARRIER_LIBCUDA");
    const Setting driver("HARRIER_LIBCUDA", is_emulated() ? HARRIER_EMULATED_GPU : wanted);
    harrier_kernels_error error{};
    EXPECT_EQ(open(0, nullptr, &kernels_, &error), 0) << error.message;
  }
  return kernels_;
}

}  // namespace harrier::test
