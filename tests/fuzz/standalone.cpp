// Runs a fuzz target where there is no libFuzzer: every file of a corpus, then seeded mutations of them.
//
// Each input is written to a file before it is tried, so that whatever ends the process (a trap, a sanitizer, the
// out-of-memory killer) leaves the input behind. A run that ends well removes it.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Input = std::vector<uint8_t>;

constexpr size_t kMaxInputBytes = 1 << 16;

Input read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Input(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

/// One input for each file, in the order of their names, so that a seed means the same everywhere.
std::vector<Input> read_corpus(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Input> corpus;
  corpus.reserve(paths.size());
  for (const auto& path : paths) corpus.push_back(read_file(path));
  return corpus;
}

int hex_digit(char c) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const size_t at = kDigits.find(static_cast<char>(c | 0x20));
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

/// The token between the quotes of one dictionary line (libFuzzer's format: \\, \" and \xNN are escapes).
Input parse_token(std::string_view quoted) {
  Input token;
  for (size_t i = 0; i < quoted.size(); ++i) {
    if (quoted[i] == '\\' && i + 3 < quoted.size() && quoted[i + 1] == 'x') {
      const int high = hex_digit(quoted[i + 2]);
      const int low = hex_digit(quoted[i + 3]);
      if (high >= 0 && low >= 0) {
        token.push_back(static_cast<uint8_t>(high * 16 + low));
        i += 3;
        continue;
      }
    }
    if (quoted[i] == '\\' && i + 1 < quoted.size()) ++i;
    token.push_back(static_cast<uint8_t>(quoted[i]));
  }
  return token;
}

std::vector<Input> read_dictionary(const std::filesystem::path& path) {
  std::vector<Input> tokens;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find('"');
    const size_t last = line.rfind('"');
    if (line.starts_with('#') || first == std::string::npos || last == first) continue;
    tokens.push_back(parse_token(std::string_view(line).substr(first + 1, last - first - 1)));
  }
  return tokens;
}

/// std::uniform_int_distribution differs from one standard library to the next; this does not.
size_t below(std::mt19937_64& random, size_t limit) { return limit == 0 ? 0 : static_cast<size_t>(random() % limit); }

void flip_bit(std::mt19937_64& random, Input& input) {
  if (!input.empty()) input[below(random, input.size())] ^= static_cast<uint8_t>(1U << below(random, 8));
}

void set_byte(std::mt19937_64& random, Input& input) {
  if (!input.empty()) input[below(random, input.size())] = static_cast<uint8_t>(random());
}

void truncate(std::mt19937_64& random, Input& input) { input.resize(below(random, input.size() + 1)); }

void erase_range(std::mt19937_64& random, Input& input) {
  const size_t begin = below(random, input.size() + 1);
  const size_t count = below(random, std::min<size_t>(input.size() - begin, 16) + 1);
  input.erase(input.begin() + static_cast<int64_t>(begin), input.begin() + static_cast<int64_t>(begin + count));
}

void insert_at_random(std::mt19937_64& random, Input& input, const Input& what) {
  input.insert(input.begin() + static_cast<int64_t>(below(random, input.size() + 1)), what.begin(), what.end());
}

void repeat_range(std::mt19937_64& random, Input& input) {
  const auto begin = static_cast<int64_t>(below(random, input.size() + 1));
  const auto count = static_cast<int64_t>(below(random, input.size() - static_cast<size_t>(begin) + 1));
  const Input piece(input.begin() + begin, input.begin() + begin + count);
  for (size_t times = below(random, 4) + 1; times > 0; --times) insert_at_random(random, input, piece);
}

/// The head of one input and the tail of another.
void splice(std::mt19937_64& random, Input& input, const Input& other) {
  truncate(random, input);
  input.insert(input.end(), other.begin() + static_cast<int64_t>(below(random, other.size() + 1)), other.end());
}

/// Mutation `index` of the run with this seed; the same on every platform.
Input mutate(uint64_t seed, uint64_t index, const std::vector<Input>& corpus, const std::vector<Input>& dictionary) {
  std::mt19937_64 random(seed * 0x9e3779b97f4a7c15ULL + index);
  Input input = corpus[below(random, corpus.size())];
  for (size_t steps = below(random, 5) + 1; steps > 0; --steps) {
    switch (below(random, 8)) {
      case 0:
        flip_bit(random, input);
        break;
      case 1:
        set_byte(random, input);
        break;
      case 2:
        truncate(random, input);
        break;
      case 3:
        erase_range(random, input);
        break;
      case 4:
        repeat_range(random, input);
        break;
      case 5:
        splice(random, input, corpus[below(random, corpus.size())]);
        break;
      default:
        if (!dictionary.empty()) insert_at_random(random, input, dictionary[below(random, dictionary.size())]);
    }
    input.resize(std::min(input.size(), kMaxInputBytes));
  }
  return input;
}

/// The file that holds the input that is being tried. It stays open: a file that is truncated and closed for each input
/// has some file systems wait for the disk each time.
struct Artifact {
  std::string path;
  int descriptor;
};

bool write_whole(const Artifact& artifact, const Input& input) {
  const auto size = static_cast<ssize_t>(input.size());
  return ftruncate(artifact.descriptor, size) == 0 &&
         pwrite(artifact.descriptor, input.data(), input.size(), 0) == size;
}

/// False when the target let an exception out, or the input cannot be kept; every other way to fail ends the process.
bool try_input(const Input& input, const Artifact& artifact) {
  if (!write_whole(artifact, input)) {
    std::fprintf(stderr, "'%s' cannot be written: is the disk full?\n", artifact.path.c_str());
    return false;
  }
  try {
    LLVMFuzzerTestOneInput(input.data(), input.size());
    return true;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "the target let an exception out: %s\n", error.what());
  } catch (...) {
    std::fprintf(stderr, "the target let something out that is no std::exception\n");
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  std::string corpus_folder;
  std::string dictionary_path;
  std::string artifact_path = "failing_input";
  uint64_t mutations = 10000;
  uint64_t seed = 1;
  CLI::App app("Replays a corpus through a fuzz target, then tries seeded mutations of it");
  app.add_option("corpus", corpus_folder, "Folder of inputs, or one input to try alone")->required();
  app.add_option("--dictionary", dictionary_path, "Tokens to insert, in libFuzzer's format")->check(CLI::ExistingFile);
  app.add_option("--mutations", mutations, "How many mutations to try after the corpus")->capture_default_str();
  app.add_option("--seed", seed, "Where the mutations start from")->capture_default_str();
  app.add_option("--artifact", artifact_path, "Where an input that fails is left")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const Artifact artifact{artifact_path, open(artifact_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)};
  if (artifact.descriptor < 0) {
    std::fprintf(stderr, "'%s' cannot be written; --artifact names another file\n", artifact_path.c_str());
    return 2;
  }
  if (std::filesystem::is_regular_file(corpus_folder)) return try_input(read_file(corpus_folder), artifact) ? 0 : 1;
  if (!std::filesystem::is_directory(corpus_folder)) {
    std::fprintf(stderr, "corpus '%s' is neither a folder nor a file; name one\n", corpus_folder.c_str());
    return 2;
  }
  const std::vector<Input> corpus = read_corpus(corpus_folder);
  if (corpus.empty()) {
    std::fprintf(stderr, "corpus '%s' holds no files; there is nothing to mutate\n", corpus_folder.c_str());
    return 2;
  }
  const std::vector<Input> dictionary =
      dictionary_path.empty() ? std::vector<Input>() : read_dictionary(dictionary_path);
  std::printf("%zu inputs, %llu mutations, --seed %llu, %zu tokens; if this stops here, the input is in %s\n",
              corpus.size(), static_cast<unsigned long long>(mutations), static_cast<unsigned long long>(seed),
              dictionary.size(), artifact_path.c_str());
  std::fflush(stdout);

  for (const Input& input : corpus) {
    if (!try_input(input, artifact)) return 1;
  }
  for (uint64_t index = 0; index < mutations; ++index) {
    if (!try_input(mutate(seed, index, corpus, dictionary), artifact)) return 1;
  }
  std::error_code ignored;
  std::filesystem::remove(artifact_path, ignored);
  std::printf("no failure\n");
  return 0;
}
