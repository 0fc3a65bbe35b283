-- Version 1 of the store. Texts that name things are hexadecimal SHA-256 or keys that callers make; times are seconds
-- since 1970 unless the name says otherwise. Rows are found by their texts, never by ids, so that stores can be merged.

-- Machine code, by its own hash.
CREATE TABLE blob(
  sha TEXT PRIMARY KEY NOT NULL CHECK(length(sha) = 64),
  bytes BLOB NOT NULL
) STRICT;

-- What was compiled together. `seal` is the hash of key, parts and their details: a row whose seal is wrong is damaged.
CREATE TABLE artifact(
  id INTEGER PRIMARY KEY,
  key TEXT UNIQUE NOT NULL CHECK(length(key) = 64),
  source_key TEXT NOT NULL,
  toolchain TEXT NOT NULL,
  architecture TEXT NOT NULL,
  label TEXT NOT NULL,
  seal TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  compile_us REAL NOT NULL,
  created_at INTEGER NOT NULL,
  used_at INTEGER NOT NULL
) STRICT;
CREATE INDEX artifact_of_source ON artifact(source_key, toolchain);
CREATE INDEX artifact_by_use ON artifact(used_at);

CREATE TABLE part(
  artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE,
  name TEXT NOT NULL,
  blob_sha TEXT NOT NULL REFERENCES blob,
  details TEXT NOT NULL,
  PRIMARY KEY(artifact_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_of_blob ON part(blob_sha);

-- Which compiler a search for one ended at, so that it need not be loaded to be known. Of this machine alone.
CREATE TABLE toolchain(
  wish TEXT PRIMARY KEY NOT NULL,
  path TEXT NOT NULL,
  stamp TEXT NOT NULL,
  identity TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Who makes an artifact just now, so that others wait. Of this machine alone.
CREATE TABLE lease(
  task TEXT PRIMARY KEY NOT NULL,
  owner TEXT NOT NULL,
  expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine(
  subject TEXT NOT NULL,
  silicon_key TEXT NOT NULL,
  reason TEXT NOT NULL,
  hits INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY(subject, silicon_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE device(
  id INTEGER PRIMARY KEY,
  silicon_key TEXT UNIQUE NOT NULL,
  name TEXT NOT NULL,
  capability INTEGER NOT NULL,
  multiprocessors INTEGER NOT NULL,
  l2_bytes INTEGER NOT NULL,
  shared_bytes_per_block INTEGER NOT NULL,
  memory_bus_bits INTEGER NOT NULL,
  memory_clock_khz INTEGER NOT NULL,
  calibration TEXT NOT NULL,
  calibrated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE environment(
  id INTEGER PRIMARY KEY,
  key TEXT UNIQUE NOT NULL,
  description TEXT NOT NULL
) STRICT;

CREATE TABLE workload(
  id INTEGER PRIMARY KEY,
  pattern_key TEXT NOT NULL,
  bucket_key TEXT NOT NULL,
  pattern TEXT NOT NULL,
  features TEXT NOT NULL,
  UNIQUE(pattern_key, bucket_key)
) STRICT;

CREATE TABLE config(
  id INTEGER PRIMARY KEY,
  text TEXT UNIQUE NOT NULL
) STRICT;

CREATE TABLE measurement(
  workload_id INTEGER NOT NULL REFERENCES workload,
  device_id INTEGER NOT NULL REFERENCES device,
  environment_id INTEGER NOT NULL REFERENCES environment,
  session TEXT NOT NULL,
  config_id INTEGER NOT NULL REFERENCES config,
  artifact TEXT NOT NULL,
  status TEXT NOT NULL,
  note TEXT NOT NULL,
  rounds INTEGER NOT NULL,
  p20_us REAL NOT NULL,
  p50_us REAL NOT NULL,
  p80_us REAL NOT NULL,
  predicted_us REAL NOT NULL,
  log_ratio REAL NOT NULL,
  log_ratio_low REAL NOT NULL,
  log_ratio_high REAL NOT NULL,
  details TEXT NOT NULL,
  driver TEXT NOT NULL,
  measured_at INTEGER NOT NULL,
  PRIMARY KEY(workload_id, device_id, environment_id, session, config_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE decision(
  workload_id INTEGER NOT NULL REFERENCES workload,
  device_id INTEGER NOT NULL REFERENCES device,
  environment_id INTEGER NOT NULL REFERENCES environment,
  config_id INTEGER NOT NULL REFERENCES config,
  artifact TEXT NOT NULL,
  default_us REAL NOT NULL,
  tuned_us REAL NOT NULL,
  margin REAL NOT NULL,
  space_hash TEXT NOT NULL,
  effort TEXT NOT NULL,
  details TEXT NOT NULL,
  driver TEXT NOT NULL,
  verified INTEGER NOT NULL,
  pinned INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  decided_at INTEGER NOT NULL,
  PRIMARY KEY(workload_id, device_id, environment_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX decision_of_artifact ON decision(artifact);
