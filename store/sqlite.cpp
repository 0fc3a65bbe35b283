#include "store/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include "ir/match.h"

namespace harrier::sqlite {
namespace {

/// Marks that are special in the URIs by which SQLite takes options.
std::string uri_of(const std::string& path, const char* options) {
  std::string uri = "file:";
  for (const char c : path) {
    if (c == '%' || c == '?' || c == '#') {
      uri += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    } else {
      uri += c;
    }
  }
  return uri + options;
}

int bind(sqlite3_stmt* statement, int index, const Value& value) {
  return match(
      value,  //
      [&](std::nullptr_t) { return sqlite3_bind_null(statement, index); },
      [&](int64_t number) { return sqlite3_bind_int64(statement, index, number); },
      [&](double number) { return sqlite3_bind_double(statement, index, number); },
      [&](std::string_view text) {
        // A null pointer would bind NULL.
        const char* data = text.data() != nullptr ? text.data() : "";
        return sqlite3_bind_text64(statement, index, data, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
      },
      [&](const Bytes& value_bytes) {
        const std::span<const char> bytes = value_bytes.bytes;
        if (bytes.empty()) return sqlite3_bind_zeroblob(statement, index, 0);
        return sqlite3_bind_blob64(statement, index, bytes.data(), bytes.size(), SQLITE_TRANSIENT);
      });
}

}  // namespace

std::string read_only_uri(const std::string& path) { return uri_of(path, "?mode=ro"); }

bool SqliteError::is_damage() const { return code() == SQLITE_CORRUPT || code() == SQLITE_NOTADB; }
bool SqliteError::is_passing() const {
  return code() == SQLITE_BUSY || code() == SQLITE_LOCKED || code() == SQLITE_NOMEM || code() == SQLITE_PROTOCOL;
}
bool SqliteError::is_full() const { return code() == SQLITE_FULL; }
bool SqliteError::is_read_only() const { return code() == SQLITE_READONLY || code() == SQLITE_PERM; }

Rows::~Rows() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
  *is_used_ = false;
}

bool Rows::next() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  sqlite3* connection = sqlite3_db_handle(statement_);
  throw SqliteError(sqlite3_extended_errcode(connection),
                    fmt::format("SQLite: {} ({})", sqlite3_errmsg(connection), sqlite3_sql(statement_)));
}

int64_t Rows::integer(int column) const { return sqlite3_column_int64(statement_, column); }
double Rows::real(int column) const { return sqlite3_column_double(statement_, column); }

std::string Rows::text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  if (text == nullptr) return {};
  return {text, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

std::vector<char> Rows::bytes(int column) const {
  const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  if (data == nullptr) return {};
  return {data, data + sqlite3_column_bytes(statement_, column)};
}

Database::Database(const std::string& path, OpenMode mode, int64_t patience_ms) : path_(path) {
  const std::string uri = uri_of(path, mode == OpenMode::kImmutable ? "?immutable=1" : "");
  const int how = mode == OpenMode::kReadWrite ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  const int code = sqlite3_open_v2(uri.c_str(), &connection_, how | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code != SQLITE_OK) {
    const SqliteError error(connection_ != nullptr ? sqlite3_extended_errcode(connection_) : code,
                            fmt::format("SQLite: opening {}: {}", path, sqlite3_errstr(code)));
    sqlite3_close(connection_);
    throw error;
  }
  sqlite3_extended_result_codes(connection_, 1);
  sqlite3_busy_timeout(connection_, static_cast<int>(patience_ms));
  // What a file's own schema says must not run anything: files come from other machines too.
  sqlite3_db_config(connection_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(connection_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(connection_, SQLITE_DBCONFIG_DQS_DML, 0, nullptr);
  sqlite3_db_config(connection_, SQLITE_DBCONFIG_DQS_DDL, 0, nullptr);
}

Database::~Database() {
  for (const auto& [sql, prepared] : statements_) sqlite3_finalize(prepared->statement);
  sqlite3_close_v2(connection_);
}

void Database::abandon() {
  for (auto& [sql, prepared] : statements_) prepared->statement = nullptr;
  connection_ = nullptr;
}

void Database::check(int code, std::string_view doing) const {
  if (code == SQLITE_OK) return;
  throw SqliteError(sqlite3_extended_errcode(connection_),
                    fmt::format("SQLite: {} ({})", sqlite3_errmsg(connection_), doing));
}

void Database::execute(const char* script) {
  check(sqlite3_exec(connection_, script, nullptr, nullptr, nullptr), std::string_view(script).substr(0, 60));
}

Rows Database::prepare(std::string_view sql) {
  const auto [begin, end] = statements_.equal_range(sql);
  for (auto entry = begin; entry != end; ++entry) {
    Prepared& prepared = *entry->second;
    if (prepared.is_used) continue;
    prepared.is_used = true;
    return {prepared.statement, &prepared.is_used};
  }
  auto prepared = std::make_unique<Prepared>();
  check(sqlite3_prepare_v3(connection_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                           &prepared->statement, nullptr),
        sql);
  prepared->is_used = true;
  Prepared& kept = *statements_.emplace(sql, std::move(prepared))->second;
  return {kept.statement, &kept.is_used};
}

Rows Database::query(std::string_view sql, std::initializer_list<Value> values) {
  Rows rows = prepare(sql);
  int index = 0;
  for (const Value& value : values) check(bind(rows.statement_, ++index, value), sql);
  return rows;
}

int64_t Database::run(std::string_view sql, std::initializer_list<Value> values) {
  Rows rows = query(sql, values);
  while (rows.next()) {
  }
  return sqlite3_changes64(connection_);
}

bool Database::try_run(std::string_view sql) {
  try {
    run(sql);
    return true;
  } catch (const SqliteError&) {
    return false;
  }
}

int64_t Database::integer(std::string_view sql, std::initializer_list<Value> values) {
  Rows rows = query(sql, values);
  return rows.next() ? rows.integer(0) : 0;
}

std::string Database::text(std::string_view sql, std::initializer_list<Value> values) {
  Rows rows = query(sql, values);
  return rows.next() ? rows.text(0) : std::string();
}

Transaction::Transaction(Database& database) : database_(database) { database_.run("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  // It fails where SQLite has rolled back already, as on full disks and in damaged files.
  if (is_open_) database_.try_run("ROLLBACK");
}

void Transaction::commit() {
  database_.run("COMMIT");
  is_open_ = false;
}

}  // namespace harrier::sqlite
