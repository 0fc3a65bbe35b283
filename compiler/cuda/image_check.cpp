#include "compiler/cuda/image_check.h"

#include <elf.h>
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace harrier {
namespace {

constexpr unsigned kCudaMachine = 190;

/// Where the flags of the header hold the GPU's number: files of CUDA 13 say so by the version of their ABI. The ELF
/// version itself says nothing.
unsigned architecture_number(const Elf64_Ehdr& header) {
  constexpr unsigned kNumberInSecondByte = 8;
  return header.e_ident[EI_ABIVERSION] >= kNumberInSecondByte ? header.e_flags >> 8 & 0xffU : header.e_flags & 0xffU;
}

}  // namespace

std::string image_problem(std::span<const char> image, const std::string& architecture) {
  if (!std::string_view(image.data(), image.size()).starts_with(std::string_view(ELFMAG, SELFMAG))) return {};
  Elf64_Ehdr header{};
  if (image.size() < sizeof header) return fmt::format("{} bytes are too few for machine code", image.size());
  std::memcpy(&header, image.data(), sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64) return "it is no 64-bit file";
  if (header.e_machine != kCudaMachine) return fmt::format("it is for machine {}, not for GPUs", header.e_machine);
  if (!architecture.starts_with("sm_")) return fmt::format("it is machine code, where {} asks for PTX", architecture);
  const auto wanted = static_cast<unsigned>(std::atoi(architecture.c_str() + 3));
  const unsigned found = architecture_number(header);
  if (found != wanted) return fmt::format("it is for sm_{}, not for {}", found, architecture);
  return {};
}

}  // namespace harrier
