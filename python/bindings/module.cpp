// The extension module. It is thin: what patterns mean, and every check, is the compiler's.
#include "bindings.h"

NB_MODULE(_harrier, module) {
  // Kernels that the package keeps for the life of the process outlive the module at exit; that is no leak.
  nanobind::set_leak_warnings(false);
  module.doc() = "The compiled half of the package `harrier`, whose Python half is the interface to use.";
  harrier::python::bind_errors(module);
  harrier::python::bind_workload(module);
  harrier::python::bind_kernel(module);
  harrier::python::bind_cuda(module);
  harrier::python::bind_show(module);
  harrier::python::bind_tune(module);
  harrier::python::bind_export(module);
}
