#include "cli/npy.h"

#include <sys/resource.h>

#include <map>
#include <random>

#include "cli_fixture.h"
#include "ir/error.h"

namespace harrier {
namespace {

using NpyTest = CliTest;

/// A version 1.0 file with this header text, unpadded as the format allows.
std::string file_with_header(const std::string& header, const std::string& data = {}) {
  const std::string text = header + "\n";
  std::string file = "\x93NUMPY";
  file += {'\x01', '\x00', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return file + text + data;
}

std::string header_of(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

NpyArray parse(const std::string& file) {
  return read_npy_bytes({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "a.npy");
}

/// The message with which the file is refused; fails when it is not.
std::string refusal(const std::string& file) {
  try {
    parse(file);
  } catch (const InvalidInput& error) {
    return error.what();
  }
  return "accepted";
}

std::string bytes_of_file(const NpyArray& array) {
  return npy_header(array.type, array.shape) +
         std::string(reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size());
}

TEST_F(NpyTest, EveryElementTypeAndRankRoundTripsThroughAFile) {
  std::mt19937_64 random(5);
  for (int type = 0; type <= static_cast<int>(ElementType::kFloat64); ++type) {
    for (const std::vector<int64_t>& shape :
         {std::vector<int64_t>{}, {0}, {5}, {2, 3}, {3, 0, 2}, {2, 1, 3, 2}, std::vector<int64_t>(32, 1)}) {
      NpyArray array{.type = static_cast<ElementType>(type), .shape = shape, .bytes = {}};
      array.bytes.resize(static_cast<size_t>(element_count(shape) * bytes_of(array.type)));
      for (std::byte& byte : array.bytes) byte = static_cast<std::byte>(random() & 0xff);
      SCOPED_TRACE(std::string(name_of(array.type)) + ", rank " + std::to_string(shape.size()));
      EXPECT_EQ(read_npy(write_array("a.npy", array)), array);
      EXPECT_EQ(parse(bytes_of_file(array)), array);
    }
  }
}

TEST_F(NpyTest, HeadersAreWhatNumPyWrites) {
  const std::string header = npy_header(ElementType::kFloat32, {3, 4});
  EXPECT_EQ(header.size() % 64, 0U);
  EXPECT_EQ(header.substr(0, 10), std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  EXPECT_TRUE(header.substr(10).starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } "));
  EXPECT_EQ(header.back(), '\n');
  EXPECT_NE(npy_header(ElementType::kBool, {7}).find("'descr': '|b1', 'fortran_order': False, 'shape': (7,), }"),
            std::string::npos);
  EXPECT_NE(npy_header(ElementType::kBFloat16, {}).find("'descr': '<V2', 'fortran_order': False, 'shape': (), }"),
            std::string::npos);
}

TEST_F(NpyTest, HeaderKeysMayComeInAnyOrderWithEitherQuote) {
  const NpyArray array = parse(file_with_header(R"({"shape":(1,2),"fortran_order":False,"descr":"|u1"})", "\x05\x06"));
  EXPECT_EQ(array, make_array<uint8_t>(ElementType::kUInt8, {1, 2}, {5, 6}));
}

TEST_F(NpyTest, EachBadFileIsRefusedByOneLineThatSaysWhatToDo) {
  const std::string two = "(2,)";
  const std::map<std::string, std::string> expected{
      {"PK\x03\x04 zip",
       "a.npy: not a .npy file (it starts with 'PK\\x03\\x04 z', not '\\x93NUMPY'): write it with numpy.save"},
      {"", "a.npy: not a .npy file (it starts with '', not '\\x93NUMPY'): write it with numpy.save"},
      {std::string("\x93NUMPY\x01", 7), "a.npy: truncated inside the .npy header: write the file again"},
      {std::string("\x93NUMPY\x04\x00\x10\x00", 10),
       "a.npy: .npy version 4.0 is unknown: versions 1.0, 2.0 and 3.0 are read"},
      {std::string("\x93NUMPY\x01\x00\x10\x00{", 11),
       "a.npy: truncated: the header needs 26 bytes, the file has 11: write the file again"},
      {std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff{", 13),
       "a.npy: .npy header of 4294967295 bytes is longer than 65536: save a plain array"},
      {file_with_header(header_of("'<f4'", "True", two), "01234567"),
       "a.npy: array is in Fortran order: save numpy.ascontiguousarray(array)"},
      {file_with_header(header_of("'>f4'", "False", two), "01234567"),
       "a.npy: dtype '>f4' is big-endian: save it as little-endian (array.astype('<f4'))"},
      {file_with_header(header_of("'<c8'", "False", two), "01234567"),
       "a.npy: dtype '<c8' is not supported: save as bool, int8 to int64, uint8 to uint64, float16, float32, float64, "
       "or "
       "bfloat16 as '<V2'"},
      {file_with_header(header_of("[('x', '<f4')]", "False", two), "01234567"),
       "a.npy: dtype is a record of fields: save one plain array a file"},
      {file_with_header(header_of("'<f4'", "False", "(-1,)")),
       "a.npy: .npy header has a negative dimension at its byte 51: write the file again with numpy.save"},
      {file_with_header(header_of("'<f4'", "False", "(99999999999999999999,)")),
       "a.npy: .npy header has a dimension above 2^62 at its byte 69: write the file again with numpy.save"},
      {file_with_header(header_of("'<f4'", "False", "(1152921504606846976,)"), "01234567"),
       "a.npy: truncated: shape (1152921504606846976) of float32 needs 1152921504606846976 x 4 bytes, the file holds "
       "8: "
       "write the file again"},
      {file_with_header(header_of("'<f8'", "False", "(4294967296, 4294967296)"), "01234567"),
       "a.npy: shape (4294967296, 4294967296) has more than 2^62 elements: write the file again"},
      {file_with_header(header_of("'<f4'", "False", two), "0123456"),
       "a.npy: truncated: shape (2) of float32 needs 2 x 4 bytes, the file holds 7: write the file again"},
      {file_with_header(header_of("'<f4'", "False", two), "0123456789"),
       "a.npy: 2 bytes too long for shape (2) of float32: write one array a file"},
      {file_with_header("{'descr': '<f4', 'sh\xe4pe': (2,)}"),
       "a.npy: .npy header is not ASCII: save a plain array, without field names"},
      {file_with_header("{'descr': '<f4', 'descr': '<f4'}"),
       "a.npy: .npy header has an unknown or repeated key 'descr' at its byte 25: write the file again with "
       "numpy.save"},
      {file_with_header("{'descr': '<f4'}"),
       "a.npy: .npy header lacks one of the keys descr, fortran_order, shape at its byte 17: write the file again with "
       "numpy.save"},
      {file_with_header(header_of("'<f4'", "False", "(2)"), "01234567"),
       "a.npy: .npy header lacks a comma in its shape at its byte 52: write the file again with numpy.save"},
      {file_with_header(header_of("'<f4'", "False", two) + " x", "01234567"),
       "a.npy: .npy header goes on after its closing brace at its byte 58: write the file again with numpy.save"},
  };
  for (const auto& [file, message] : expected) EXPECT_EQ(refusal(file), message);
}

TEST_F(NpyTest, EveryPrefixAndEveryFlippedBitIsReadOrRefused) {
  const std::string whole = bytes_of_file(make_array<float>(ElementType::kFloat32, {2, 2}, {1, 2, 3, 4}));
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_NE(refusal(whole.substr(0, size)), "accepted") << size;
  for (size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string changed = whole;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(refusal(changed).find('\n'), std::string::npos) << "bit " << bit;
  }
}

TEST_F(NpyTest, AHugeShapeInASmallFileAllocatesNothing) {
  const std::string file = file_with_header(header_of("'<f4'", "False", "(1073741824, 64)"), "0123");
  rusage usage_before{};
  rusage usage_after{};
  ::getrusage(RUSAGE_SELF, &usage_before);
  EXPECT_NE(refusal(file), "accepted");
  ::getrusage(RUSAGE_SELF, &usage_after);
  EXPECT_LT(usage_after.ru_maxrss - usage_before.ru_maxrss, 64 * 1024) << "KiB";
}

TEST_F(NpyTest, FilesThatAreNoneAreRefused) {
  const auto message = [](const std::string& file) {
    try {
      read_npy(file);
    } catch (const InvalidInput& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(without_folder(message(path("missing.npy"))), "missing.npy: no such file: check the path");
  EXPECT_EQ(message("/dev/null"), "/dev/null: not a regular file: name a .npy file");
  EXPECT_EQ(without_folder(message(write_text("text.npy", "hello"))),
            "text.npy: not a .npy file (it starts with 'hello', not '\\x93NUMPY'): write it with numpy.save");
}

TEST_F(NpyTest, AFailedWriteLeavesTheOldFileAndNothingElse) {
  const NpyArray old_array = make_array<float>(ElementType::kFloat32, {1}, {7});
  write_array("a.npy", old_array);
  // The element count is refused after the header was written.
  EXPECT_THROW(write_npy(path("a.npy"), {.data = nullptr, .type = ElementType::kFloat32, .shape = {-1}}), InvalidInput);
  EXPECT_EQ(read_npy(path("a.npy")), old_array);
  EXPECT_THROW(write_npy(path("no/such/folder/a.npy"), old_array.view()), InvalidInput);
  EXPECT_EQ(files(), std::vector<std::string>{"a.npy"});
}

TEST_F(NpyTest, ALinkIsFollowedAndADeviceIsWritten) {
  const NpyArray array = make_array<float>(ElementType::kFloat32, {1}, {7});
  write_array("target.npy", make_array<float>(ElementType::kFloat32, {1}, {1}));
  std::filesystem::create_symlink(path("target.npy"), path("link.npy"));
  write_npy(path("link.npy"), array.view());
  EXPECT_TRUE(std::filesystem::is_symlink(path("link.npy")));
  EXPECT_EQ(read_npy(path("target.npy")), array);
  EXPECT_NO_THROW(write_npy("/dev/null", array.view()));
}

TEST_F(NpyTest, TheFuzzCorpusHoldsBothKinds) {
  int accepted = 0;
  int refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(HARRIER_SOURCE_DIR "/tests/fuzz/corpus/npy")) {
    try {
      const NpyArray array = read_npy(entry.path().string());
      EXPECT_EQ(parse(bytes_of_file(array)), array) << entry.path();
      ++accepted;
    } catch (const InvalidInput& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << entry.path();
      ++refused;
    }
  }
  EXPECT_GE(accepted, 8);
  EXPECT_GE(refused, 8);
}

}  // namespace
}  // namespace harrier
