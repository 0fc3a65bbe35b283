// The host's compiler, which makes libraries of kernels.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace harrier::emulated {

struct Program {
  std::string source;
  std::string name;
  std::map<std::string, std::string> headers;  // by the paths that includes name
  std::string architecture;                    // "sm_90a", "compute_80"
  std::vector<std::string> options;            // of the host's compiler
  bool known_inputs = true;                    // all that is compiled is in the program
};

/// The library's bytes; nothing where it does not compile. The compiler's text is in `log`. Puts the emulated
/// instructions in place of the real ones; results are kept by what went into them.
std::string compile_for_host(const Program& program, std::string& log);

}  // namespace harrier::emulated
