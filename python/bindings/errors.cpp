// Harrier's errors as Python exceptions. The message is the same line; what else an error knows becomes an attribute.
#include <exception>
#include <string>

#include "bindings.h"
#include "ir/error.h"

namespace nb = nanobind;

namespace harrier::python {
namespace {

/// What Python raises for each C++ type. Lives as long as the module.
struct ExceptionTypes {
  nb::object invalid_input;
  nb::object toolchain_error;
  nb::object device_error;
  nb::object internal_error;
};

const char* name_of(DeviceFailure failure) {
  switch (failure) {
    case DeviceFailure::kNoDriver:
      return "no_driver";
    case DeviceFailure::kNoDevice:
      return "no_device";
    case DeviceFailure::kDriverTooOld:
      return "driver_too_old";
    case DeviceFailure::kUnsupported:
      return "unsupported";
    case DeviceFailure::kOutOfMemory:
      return "out_of_memory";
    case DeviceFailure::kBadImage:
      return "bad_image";
    case DeviceFailure::kLaunch:
      return "launch";
    case DeviceFailure::kOther:
      break;
  }
  return "other";
}

void raise(const nb::object& type, const char* message, const char* attribute = nullptr,
           const std::string& value = {}) {
  nb::object error = type(nb::str(message));
  if (attribute != nullptr) error.attr(attribute) = nb::str(value.c_str());
  PyErr_SetObject(type.ptr(), error.ptr());
}

void translate(const std::exception_ptr& pointer, void* payload) {
  const auto& types = *static_cast<const ExceptionTypes*>(payload);
  try {
    std::rethrow_exception(pointer);
  } catch (const InvalidInput& error) {
    raise(types.invalid_input, error.what());
  } catch (const ToolchainError& error) {
    raise(types.toolchain_error, error.what(), "log", error.log());
  } catch (const DeviceError& error) {
    raise(types.device_error, error.what(), "failure", name_of(error.failure()));
  } catch (const InternalError& error) {
    raise(types.internal_error, error.what());
  }
}

nb::object make_type(nb::module_& module, const char* name, PyObject* base, const char* doc) {
  const std::string full_name = std::string("harrier.") + name;
  nb::object type = nb::steal(PyErr_NewExceptionWithDoc(full_name.c_str(), doc, base, nullptr));
  if (!type.is_valid()) nb::raise_python_error();
  module.attr(name) = type;
  return type;
}

}  // namespace

void bind_errors(nb::module_& module) {
  auto* types = new ExceptionTypes{
      .invalid_input = make_type(module, "InvalidInput", PyExc_ValueError,
                                 "The caller's mistake, in one line: the value, the limit, the remedy."),
      .toolchain_error = make_type(module, "ToolchainError", PyExc_RuntimeError,
                                   "LLVM or NVRTC refused, or is not there. `log` holds the tool's own words."),
      .device_error = make_type(module, "DeviceError", PyExc_RuntimeError,
                                "The GPU or its driver refused, or there is none. `failure` says which: no_driver, "
                                "no_device, driver_too_old, unsupported, out_of_memory, bad_image, launch or other."),
      .internal_error = make_type(module, "InternalError", PyExc_AssertionError, "Harrier's own mistake.")};
  // Never given back, for the translator is never unregistered.
  nb::register_exception_translator(translate, types);
}

}  // namespace harrier::python
