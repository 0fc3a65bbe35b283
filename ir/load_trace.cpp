#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>

#include "ir/length_distribution.h"
#include "ir/lexer.h"
#include "ir/verify_rules.h"

namespace harrier {
namespace {

std::string read_file(const std::string& path) {
  const auto close = [](std::FILE* file) { std::fclose(file); };
  const std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(path.c_str(), "rb"), close);
  std::string text;
  char buffer[65536];
  std::size_t got = 0;
  while (file && (got = std::fread(buffer, 1, sizeof buffer, file.get())) > 0) text.append(buffer, got);
  if (!file || std::ferror(file.get()) != 0) {
    refuse("cannot read trace \"{}\"; a relative path starts at the folder of the .attn file", path);
  }
  return text;
}

struct Row {
  int64_t line;
  std::vector<std::string> cells;
};

/// Rows of comma-separated cells. A quoted cell may hold commas, line ends and doubled quotes; lines end in LF or CRLF;
/// blank lines are skipped.
class CsvReader {
 public:
  CsvReader(std::string_view text, const std::string& path) : text_(text), path_(path) {
    if (text_.starts_with(kByteOrderMark)) text_.remove_prefix(kByteOrderMark.size());
  }

  std::optional<Row> next() {
    while (at_ < text_.size()) {
      Row row{.line = line_, .cells = {}};
      do row.cells.push_back(read_cell());
      while (accept(','));
      if (accept('\r') && at_ < text_.size() && text_[at_] != '\n') {
        refuse("{}:{}: found a carriage return inside a line, expected it at the end; save the file with LF or CRLF",
               path_, line_);
      }
      if (accept('\n')) ++line_;
      const bool is_blank = row.cells.size() == 1 && row.cells[0].empty();
      if (!is_blank) return row;
    }
    return std::nullopt;
  }

 private:
  bool accept(char wanted) {
    if (at_ == text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  std::string read_cell() {
    skip_spaces();
    if (accept('"')) return read_quoted();
    const std::size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string_view cell = text_.substr(at_, end - at_);
    at_ = end;
    const std::size_t last = cell.find_last_not_of(" \t");
    return std::string(cell.substr(0, last == std::string_view::npos ? 0 : last + 1));
  }

  std::string read_quoted() {
    const int64_t opened = line_;
    std::string cell;
    while (at_ < text_.size()) {
      const char letter = text_[at_++];
      if (letter == '"' && !accept('"')) {
        skip_spaces();
        if (at_ < text_.size() && std::string_view(",\r\n").find(text_[at_]) == std::string_view::npos) {
          refuse("{}:{}: found text after a quoted cell, expected ','; double the quotes inside a cell", path_, line_);
        }
        return cell;
      }
      if (letter == '\n') ++line_;
      cell += letter;
    }
    refuse("{}:{}: found a quoted cell without its end, expected '\"'; close it", path_, opened);
  }

  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }

  std::string_view text_;
  const std::string& path_;
  std::size_t at_ = 0;
  int64_t line_ = 1;
};

/// An integer in decimal digits, whatever its size (one past int64 counts as -1, out of range for any length).
std::optional<int64_t> parse_integer(std::string_view cell) {
  int64_t value = 0;
  const auto result = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (result.ptr != cell.data() + cell.size() || cell.empty()) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) return -1;
  return result.ec == std::errc{} ? std::optional(value) : std::nullopt;
}

std::string quoted_cell(const std::string& cell) {
  if (!is_plain_text(cell)) return "bytes that are no text";
  return "'" + (cell.size() > kLongestQuote ? cell.substr(0, kLongestQuote) + "..." : cell) + "'";
}

bool is_length_column(std::string_view cell) {
  return std::ranges::equal(cell, std::string_view("length"),
                            [](char c, char lower) { return c == lower || c == lower - 'a' + 'A'; });
}

/// The column of the lengths where the row is a header: nothing where it is data.
std::optional<std::size_t> find_length_column(const Row& row, const std::string& path) {
  const auto found = std::ranges::find_if(row.cells, is_length_column);
  if (found != row.cells.end()) return static_cast<std::size_t>(found - row.cells.begin());
  if (parse_integer(row.cells[0])) return std::nullopt;
  refuse("{}:{}: found {}, expected a column named length or a number; name the column of the lengths 'length'", path,
         row.line, quoted_cell(row.cells[0]));
}

int64_t read_length(const Row& row, std::size_t column, const std::string& path) {
  if (column >= row.cells.size()) {
    refuse("{}:{}: found {} cells, expected a length in cell {}; complete the row", path, row.line, row.cells.size(),
           column + 1);
  }
  const std::string& cell = row.cells[column];
  const std::optional<int64_t> length = parse_integer(cell);
  if (!length || *length < 0 || *length > kMaxInt32) {
    refuse("{}:{}: found {}, expected a length in 0..{}; correct or remove the row", path, row.line, quoted_cell(cell),
           kMaxInt32);
  }
  return *length;
}

}  // namespace

void load_trace(LengthDistribution& distribution, const std::string& folder) {
  auto* trace = std::get_if<TraceLength>(&distribution);
  if (trace == nullptr) return;
  // An absolute path replaces the folder.
  const std::string path = (std::filesystem::path(folder) / trace->path).string();
  const std::string text = read_file(path);
  CsvReader reader(text, path);
  std::vector<int64_t> lengths;
  std::size_t column = 0;
  bool is_first = true;
  while (const std::optional<Row> row = reader.next()) {
    const std::optional<std::size_t> header = is_first ? find_length_column(*row, path) : std::nullopt;
    is_first = false;
    if (header) {
      column = *header;
    } else {
      lengths.push_back(read_length(*row, column, path));
    }
  }
  if (lengths.empty()) refuse("trace \"{}\" holds 0 lengths, expected at least one; write one length a line", path);
  trace->lengths = std::move(lengths);
}

}  // namespace harrier
