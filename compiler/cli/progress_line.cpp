#include "cli/progress_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>

namespace harrier {

std::string progress_bar(double share, const std::string& words, int columns) {
  constexpr int kCells = 20;
  const double clamped = std::clamp(share, 0.0, 1.0);
  const int filled = static_cast<int>(clamped * kCells);
  std::string text = fmt::format("[{}{}] {:3.0f} %{}{}", std::string(static_cast<size_t>(filled), '#'),
                                 std::string(static_cast<size_t>(kCells - filled), '.'), 100 * clamped,
                                 words.empty() ? "" : ", ", words);
  if (std::ssize(text) > columns) text.resize(static_cast<size_t>(std::max(columns, 0)));
  return text;
}

void ProgressLine::show(double share, const std::string& words) {
  if (!is_shown_) return;
  clear();
  out_ << progress_bar(share, words, columns_ - 1) << std::flush;
  is_drawn_ = true;
}

void ProgressLine::clear() {
  if (!is_drawn_) return;
  out_ << '\r' << std::string(static_cast<size_t>(std::max(columns_ - 1, 0)), ' ') << '\r' << std::flush;
  is_drawn_ = false;
}

}  // namespace harrier
