#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "cli/commands.h"

namespace {

int terminal_columns() {
  constexpr int kFallback = 80;
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return kFallback;
  return size.ws_col;
}

/// Empty where nobody says.
std::string own_path() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).string();
}

}  // namespace

int main(int count, char** words) {
  // NO_COLOR is the custom of no-color.org.
  const bool has_color = ::isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  harrier::Streams streams{.out = std::cout,
                           .error = std::cerr,
                           .has_color = has_color,
                           .columns = terminal_columns(),
                           .program = own_path()};
  return harrier::run_command_line(std::vector<std::string>(words + (count > 0 ? 1 : 0), words + count), streams);
}
