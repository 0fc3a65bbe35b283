// A bar that is drawn over itself on a terminal.
#pragma once

#include <iosfwd>
#include <string>

namespace harrier {

/// "[#####.....]  50 %, 12 s left, best 3.2 % under the default": at most `columns` characters.
std::string progress_bar(double share, const std::string& words, int columns);

/// Draws only where somebody looks, and leaves nothing behind.
class ProgressLine {
 public:
  ProgressLine(std::ostream& out, bool is_shown, int columns) : out_(out), is_shown_(is_shown), columns_(columns) {}
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(double share, const std::string& words);
  void clear();

 private:
  std::ostream& out_;
  bool is_shown_;
  int columns_;
  bool is_drawn_ = false;
};

}  // namespace harrier
