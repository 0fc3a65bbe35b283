// An export as C, compiled with the host's C compiler and loaded into the test.
#pragma once

#include <string>
#include <vector>

#include "compiler/export/runtime/harrier_kernels.h"
#include "compiler/harrier_export.h"
#include "support/temporary_folder.h"

namespace harrier::test {

class ExportedLibrary {
 public:
  /// Exports to a folder of its own, compiles with `cc -std=c11` and every warning an error, opens the library.
  ExportedLibrary(const std::vector<ExportWorkload>& workloads, const std::vector<std::string>& architectures);
  ~ExportedLibrary();
  ExportedLibrary(const ExportedLibrary&) = delete;
  ExportedLibrary& operator=(const ExportedLibrary&) = delete;

  const ExportReport& report() const { return report_; }

  /// Kernels on GPU 0, closed with the library. Fails the test where they do not open.
  harrier_kernels* kernels();

  decltype(&harrier_kernels_open) open = nullptr;
  decltype(&harrier_kernels_close) close = nullptr;
  decltype(&harrier_kernels_workspace) workspace = nullptr;
  decltype(&harrier_kernels_launch) launch = nullptr;
  decltype(&harrier_kernels_backward) backward = nullptr;
  decltype(&harrier_kernels_choice) choice = nullptr;
  decltype(&harrier_kernels_name) name = nullptr;

 private:
  const TemporaryFolder folder_;
  ExportReport report_;
  void* library_ = nullptr;
  harrier_kernels* kernels_ = nullptr;
};

}  // namespace harrier::test
