// A file that appears whole or not at all.
#pragma once

#include <cstddef>
#include <string>

namespace harrier {

/// Collects bytes in an unnamed or temporary sibling of `path` and renames it into place on commit(), so that neither
/// an error nor Ctrl-C leaves half a file. A path that exists and is no regular file (a device, a pipe) is written
/// straight.
/// Throws InvalidInput with the path and the system's reason.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void write(const void* data, size_t bytes);
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_;       // where the file is to appear, symbolic links followed
  std::string temporary_;  // its name until then; empty while it has none
  int descriptor_ = -1;
  bool is_direct_ = false;
};

/// All of `text` at once.
void write_text_file(const std::string& path, const std::string& text);

}  // namespace harrier
