// Whether bytes can be machine code for an architecture.
#pragma once

#include <span>
#include <string>

namespace harrier {

/// Why an ELF file cannot be the code that `architecture` (sm_90a, say) asks for: another class of file, another
/// machine, another GPU. Empty where nothing speaks against it. What is no ELF file is the driver's to judge.
std::string image_problem(std::span<const char> image, const std::string& architecture);

}  // namespace harrier
