// What NVRTC makes here and modules load: a host library with the architecture it was made for.
#pragma once

#include <optional>
#include <string>

namespace harrier::emulated {

struct Image {
  std::string architecture;  // "sm_90a", "compute_80"
  std::string library;       // bytes of a shared object
};

/// A binary for sm_XX, text for compute_XX; the reader finds its end in the image itself, as drivers do.
std::string write_image(const Image& image);
std::optional<Image> read_image(const void* bytes);

/// Whether a device of this capability loads code for `architecture`.
bool runs_on(const std::string& architecture, int major, int minor);

}  // namespace harrier::emulated
