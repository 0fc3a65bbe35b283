#include "runtime/cuda/library_identity.h"

#include <dlfcn.h>
#include <elf.h>
#include <fmt/format.h>
#include <link.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <span>

namespace harrier::cuda {
namespace {

struct Search {
  uintptr_t address;
  std::string build_id;
};

/// Of the notes of one segment: headers of name size, description size and type, each text padded to 4 bytes.
std::string build_id_of(std::span<const char> notes) {
  constexpr size_t kAlignment = 4;
  constexpr char kOwner[] = "GNU";
  const auto padded = [](size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; };
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) header{};
    std::memcpy(&header, notes.data(), sizeof header);
    const size_t name_at = sizeof header;
    const size_t text_at = name_at + padded(header.n_namesz);
    const size_t end = text_at + padded(header.n_descsz);
    if (end > notes.size()) break;
    if (header.n_type == NT_GNU_BUILD_ID && header.n_namesz == sizeof kOwner &&
        std::memcmp(notes.data() + name_at, kOwner, sizeof kOwner) == 0) {
      std::string text;
      for (const char byte : notes.subspan(text_at, header.n_descsz)) {
        text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
      }
      return text;
    }
    notes = notes.subspan(end);
  }
  return {};
}

int look_at(dl_phdr_info* library, size_t /*size*/, void* data) {
  auto* search = static_cast<Search*>(data);
  const std::span segments(library->dlpi_phdr, library->dlpi_phnum);
  bool holds_address = false;
  for (const auto& segment : segments) {
    const uintptr_t begin = library->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && search->address >= begin && search->address < begin + segment.p_memsz) {
      holds_address = true;
    }
  }
  if (!holds_address) return 0;
  for (const auto& segment : segments) {
    if (segment.p_type != PT_NOTE || !search->build_id.empty()) continue;
    const auto* notes = reinterpret_cast<const char*>(library->dlpi_addr + segment.p_vaddr);
    search->build_id = build_id_of({notes, segment.p_memsz});
  }
  return 1;
}

}  // namespace

LibraryIdentity identify_library(const void* address) {
  LibraryIdentity identity;
  Dl_info facts{};
  if (dladdr(address, &facts) != 0 && facts.dli_fname != nullptr) {
    std::error_code error;
    identity.file = std::filesystem::canonical(facts.dli_fname, error).string();
    if (error) identity.file = facts.dli_fname;
  }
  Search search{.address = reinterpret_cast<uintptr_t>(address), .build_id = {}};
  dl_iterate_phdr(look_at, &search);
  identity.build_id = search.build_id.empty() ? file_stamp(identity.file) : search.build_id;
  return identity;
}

std::string file_stamp(const std::string& path) {
  struct stat facts{};
  if (stat(path.c_str(), &facts) != 0) return {};
  return fmt::format("{} {}.{:09}", facts.st_size, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec);
}

}  // namespace harrier::cuda
