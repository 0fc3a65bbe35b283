// A thin face of SQLite: connections, statements that are prepared once, bound parameters, transactions.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ir/error.h"

struct sqlite3;
struct sqlite3_stmt;

namespace harrier::sqlite {

class SqliteError : public Error {
 public:
  SqliteError(int code, const std::string& message) : Error(message), code_(code) {}
  int code() const { return code_ & 0xff; }  // SQLITE_BUSY, SQLITE_CORRUPT, ...
  int extended_code() const { return code_; }

  bool is_damage() const;     // the file is no database, or a broken one
  bool is_passing() const;    // locked, out of memory: later it may work
  bool is_full() const;       // no room on the disk
  bool is_read_only() const;  // writing is not allowed

 private:
  int code_;
};

struct Bytes {
  std::span<const char> bytes;
};

/// What a parameter is bound to. Texts and bytes are copied or used at once, so they need not outlive the call.
using Value = std::variant<std::nullptr_t, int64_t, double, std::string_view, Bytes>;

/// A statement of the connection, given back when the rows have been read.
class Rows {
 public:
  Rows(Rows&& other) noexcept : statement_(std::exchange(other.statement_, nullptr)), is_used_(other.is_used_) {}
  Rows& operator=(Rows&&) = delete;
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  ~Rows();

  /// Whether there is another row, which columns then are read from. Throws SqliteError.
  bool next();
  int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;
  std::vector<char> bytes(int column) const;

 private:
  friend class Database;
  Rows(sqlite3_stmt* statement, bool* is_used) : statement_(statement), is_used_(is_used) {}
  sqlite3_stmt* statement_;
  bool* is_used_;
};

enum class OpenMode {
  kReadWrite,  // made where it is missing
  kReadOnly,   // beside processes that write
  kImmutable,  // a file that nobody changes: needs no locks, works in folders that cannot be written
};

/// As ATTACH takes a file that must not be changed.
std::string read_only_uri(const std::string& path);

/// One connection, for one thread at a time, which must not be used after a fork.
class Database {
 public:
  /// Throws SqliteError. Nothing is read yet: a file that is no database is found out by the first statement.
  Database(const std::string& path, OpenMode mode, int64_t patience_ms = 5000);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  const std::string& path() const { return path_; }

  /// Several statements without parameters: schemas, pragmas.
  void execute(const char* script);

  /// One statement; `?1` is the first value. Returns how many rows it changed.
  int64_t run(std::string_view sql, std::initializer_list<Value> values = {});

  /// The same for what may fail at the end of a life: false instead of SqliteError.
  bool try_run(std::string_view sql);

  Rows query(std::string_view sql, std::initializer_list<Value> values = {});

  /// The first column of the first row, 0 where there is none.
  int64_t integer(std::string_view sql, std::initializer_list<Value> values = {});
  std::string text(std::string_view sql, std::initializer_list<Value> values = {});

  /// Gives up the file without a word to SQLite, whose locks a child of a fork does not have.
  void abandon();

 private:
  struct Prepared {
    sqlite3_stmt* statement = nullptr;
    bool is_used = false;
  };
  Rows prepare(std::string_view sql);
  void check(int code, std::string_view doing) const;

  std::string path_;
  sqlite3* connection_ = nullptr;
  std::multimap<std::string, std::unique_ptr<Prepared>, std::less<>> statements_;
};

/// BEGIN IMMEDIATE, so that waiting for other writers happens here; rolled back unless committed.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
  bool is_open_ = true;
};

}  // namespace harrier::sqlite
