-- The tables of a ledger in SQLite.
--
-- Times are integers: milliseconds since the Unix epoch, UTC, by the ledger's clock; hours are counted from the
-- epoch. 0 stands for "not set". Numbers of regions, accounts, products, agreements, principals, keys and workloads
-- are given by the ledger, dense from 1, and never used again. Rows of usage and call are only ever appended.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Counters. revision is how many acts of administration have changed the catalogue.
CREATE TABLE state (
  name TEXT PRIMARY KEY,
  n    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO state (name, n) VALUES ('revision', 0);

-- Rows of the catalogue note in column changed the revision that changed them last.
CREATE TABLE region (
  id      INTEGER PRIMARY KEY,
  name    TEXT NOT NULL UNIQUE,
  enabled INTEGER NOT NULL,
  changed INTEGER NOT NULL
) STRICT;

CREATE TABLE account (
  id         INTEGER PRIMARY KEY,
  account_id INTEGER NOT NULL UNIQUE, -- the 12 digits
  name       TEXT NOT NULL,
  seller     INTEGER NOT NULL,
  buyer      INTEGER NOT NULL,
  suspended  INTEGER NOT NULL,
  changed    INTEGER NOT NULL
) STRICT;

CREATE TABLE product (
  id           INTEGER PRIMARY KEY,
  seller       INTEGER NOT NULL,
  product_code TEXT NOT NULL UNIQUE,
  product_id   TEXT NOT NULL UNIQUE,
  title        TEXT NOT NULL,
  type         INTEGER NOT NULL,
  concurrent   INTEGER NOT NULL,
  dimensions   TEXT NOT NULL, -- JSON list of API names, in the order of their numbers
  regions      TEXT NOT NULL, -- JSON list of region numbers, empty for all
  changed      INTEGER NOT NULL
) STRICT;

CREATE TABLE public_key (
  product    INTEGER NOT NULL,
  version    INTEGER NOT NULL,
  pem        TEXT NOT NULL,
  sealed     BLOB NOT NULL,
  created    INTEGER NOT NULL,
  rotated_at INTEGER NOT NULL,
  changed    INTEGER NOT NULL,
  PRIMARY KEY (product, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE agreement (
  id           INTEGER PRIMARY KEY,
  product      INTEGER NOT NULL,
  buyer        INTEGER NOT NULL,
  agreement_id TEXT NOT NULL,
  license_arn  TEXT NOT NULL,
  start        INTEGER NOT NULL,
  ending_at    INTEGER NOT NULL,
  ended_at     INTEGER NOT NULL,
  changed      INTEGER NOT NULL
) STRICT;

CREATE TABLE customer (
  seller     INTEGER NOT NULL,
  buyer      INTEGER NOT NULL,
  identifier TEXT NOT NULL,
  changed    INTEGER NOT NULL,
  PRIMARY KEY (seller, buyer)
) STRICT, WITHOUT ROWID;

CREATE TABLE workload (
  id          INTEGER PRIMARY KEY,
  account     INTEGER NOT NULL,
  platform    INTEGER NOT NULL,
  resource_id TEXT NOT NULL,
  region      INTEGER NOT NULL,
  role        INTEGER NOT NULL,
  changed     INTEGER NOT NULL
) STRICT;

CREATE TABLE registration (
  workload   INTEGER NOT NULL,
  product    INTEGER NOT NULL,
  operation  INTEGER NOT NULL,
  first_call INTEGER NOT NULL,
  last_call  INTEGER NOT NULL,
  PRIMARY KEY (workload, product, operation)
) STRICT, WITHOUT ROWID;

CREATE TABLE principal (
  id      INTEGER PRIMARY KEY,
  account INTEGER NOT NULL,
  kind    INTEGER NOT NULL,
  name    TEXT NOT NULL,
  allow   TEXT NOT NULL, -- JSON lists of actions and presets
  deny    TEXT NOT NULL,
  deleted INTEGER NOT NULL,
  changed INTEGER NOT NULL
) STRICT;

CREATE TABLE access_key (
  id            INTEGER PRIMARY KEY,
  access_key_id TEXT NOT NULL UNIQUE,
  principal     INTEGER NOT NULL,
  sealed        BLOB NOT NULL, -- the secret access key under the master key
  active        INTEGER NOT NULL,
  deleted       INTEGER NOT NULL,
  created       INTEGER NOT NULL,
  changed       INTEGER NOT NULL
) STRICT;

CREATE TABLE admin_token (
  id      INTEGER PRIMARY KEY,
  name    TEXT NOT NULL,
  hash    BLOB NOT NULL,
  created INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  changed INTEGER NOT NULL
) STRICT;

CREATE TABLE registration_token (
  id        BLOB PRIMARY KEY, -- 16 bytes: the time of issue in 6, then random ones
  product   INTEGER NOT NULL,
  buyer     INTEGER NOT NULL,
  agreement INTEGER NOT NULL, -- 0 while the buyer has none
  issued    INTEGER NOT NULL,
  expires   INTEGER NOT NULL,
  revoked   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each accepted usage record. Duplicates are decided before a row is appended: on the hour of at, the
-- dimension and region of meter, and the agreement, or product and workload, or product and buyer; for AgentCore
-- runtimes on (workload, client_token). A column costs as much as a step of the insertion, so there are few.
CREATE TABLE usage (
  seq          INTEGER PRIMARY KEY, -- the call's seq * 32 + the record's place in the call, from 0
  at           INTEGER NOT NULL,    -- the timestamp as sent
  product      INTEGER NOT NULL,
  buyer        INTEGER NOT NULL,
  holder       INTEGER NOT NULL,    -- the agreement if named by LicenseArn, minus the workload if sent by MeterUsage, else 0
  meter        INTEGER NOT NULL,    -- dimension * 65536 + region * 256 + form
  quantity     INTEGER NOT NULL,
  client_token TEXT,                -- AgentCore only
  allocations  BLOB
) STRICT;

-- The first row of usage of each hour that has any.
CREATE TABLE hour (
  hour      INTEGER PRIMARY KEY,
  first_seq INTEGER NOT NULL
) STRICT;

-- Rows of usage, from first to last, for hours whose keys had been put into a file: the file does not have theirs.
CREATE TABLE late (
  hour  INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last  INTEGER NOT NULL,
  PRIMARY KEY (hour, first)
) STRICT, WITHOUT ROWID;

-- One row for each authenticated call and each act of administration.
CREATE TABLE call (
  seq         INTEGER PRIMARY KEY,
  at          INTEGER NOT NULL,
  request     BLOB NOT NULL,    -- request id, 16 bytes, a UUID of version 7
  operation   INTEGER NOT NULL,
  principal   INTEGER NOT NULL,
  access_key  INTEGER NOT NULL, -- 0 for a session
  workload    INTEGER NOT NULL,
  source      TEXT NOT NULL,    -- the caller's network address
  region      INTEGER NOT NULL,
  refusal     INTEGER NOT NULL, -- kind of error, or -1 for none
  usage_rows  INTEGER NOT NULL, -- how many usage rows the call wrote
  detail      BLOB              -- what cannot be rebuilt from usage rows
) STRICT;

-- ClientTokens of MeterUsage, kept for at least 24 hours.
CREATE TABLE client_token (
  workload   INTEGER NOT NULL,
  hash       BLOB NOT NULL,
  parameters BLOB NOT NULL,
  record     BLOB NOT NULL, -- MeteringRecordId
  at         INTEGER NOT NULL,
  PRIMARY KEY (workload, hash)
) STRICT, WITHOUT ROWID;
