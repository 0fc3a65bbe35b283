// One function for each area of the extension module `harrier._harrier`: each adds its classes and functions.
#pragma once

#include <nanobind/nanobind.h>

namespace harrier::python {

void bind_errors(nanobind::module_& module);
void bind_workload(nanobind::module_& module);
void bind_kernel(nanobind::module_& module);
void bind_cuda(nanobind::module_& module);
void bind_show(nanobind::module_& module);
void bind_tune(nanobind::module_& module);
void bind_export(nanobind::module_& module);

}  // namespace harrier::python
