// What the environment says about the emulated devices, and faults that tests ask for. README.md lists the variables.
#pragma once

namespace harrier::emulated {

struct Capability {
  int major;
  int minor;
};

Capability capability();
int driver_version();
int device_count();
int multiprocessors();
int ctas_together();

/// The result that HARRIER_EMULATED_FAIL asks `function` to return this time; 0 = none. Counts calls.
int injected_failure(const char* function);

/// The result that HARRIER_EMULATED_FAULT asks a launch with so much dynamic shared memory to leave; 0 = none. It may
/// ask it not to come back at all.
int injected_fault(unsigned shared_bytes);

}  // namespace harrier::emulated
