-- The tables of a ledger in PostgreSQL. They are those of ../sqlite but for usage, call, writer, lease and state.
--
-- least: 1
--
-- Times are milliseconds since the Unix epoch, UTC, by the ledger's clock unless said otherwise; hours are counted
-- from the epoch. 0 stands for "not set". Numbers of regions, accounts, products, agreements, principals, keys and
-- workloads are given by the ledger, dense from 1, and never used again. Rows of usage and call are only ever
-- inserted. Column changed is the revision of the catalogue that changed the row last.

CREATE TABLE IF NOT EXISTS meta (
  name  text PRIMARY KEY,
  value bytea NOT NULL
);

-- Counters: revision, how many acts of administration have changed the catalogue; schema, the last migration that
-- was made; least, the oldest one that a node must know; sealed, 1 when the ledger has been moved elsewhere.
CREATE TABLE IF NOT EXISTS state (
  name text PRIMARY KEY,
  n    bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS region (
  id      int PRIMARY KEY,
  name    text NOT NULL,
  enabled boolean NOT NULL,
  changed bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS account (
  id         int PRIMARY KEY,
  account_id bigint NOT NULL, -- the 12 digits
  name       text NOT NULL,
  seller     boolean NOT NULL,
  buyer      boolean NOT NULL,
  suspended  boolean NOT NULL,
  changed    bigint NOT NULL
);

CREATE INDEX IF NOT EXISTS account_changed ON account (changed);

CREATE TABLE IF NOT EXISTS product (
  id           int PRIMARY KEY,
  seller       int NOT NULL,
  product_code text NOT NULL,
  product_id   text NOT NULL,
  title        text NOT NULL,
  type         smallint NOT NULL,
  concurrent   boolean NOT NULL,
  dimensions   text NOT NULL, -- JSON list of API names, in the order of their numbers
  regions      text NOT NULL, -- JSON list of region numbers, empty for all
  changed      bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS public_key (
  product    int NOT NULL,
  version    int NOT NULL,
  pem        text NOT NULL,
  sealed     bytea NOT NULL,
  created    bigint NOT NULL,
  rotated_at bigint NOT NULL,
  changed    bigint NOT NULL,
  PRIMARY KEY (product, version)
);

CREATE TABLE IF NOT EXISTS agreement (
  id           int PRIMARY KEY,
  product      int NOT NULL,
  buyer        int NOT NULL,
  agreement_id text NOT NULL,
  license_arn  text NOT NULL,
  start        bigint NOT NULL,
  ending_at    bigint NOT NULL,
  ended_at     bigint NOT NULL,
  changed      bigint NOT NULL
);

CREATE INDEX IF NOT EXISTS agreement_changed ON agreement (changed);

CREATE TABLE IF NOT EXISTS customer (
  seller     int NOT NULL,
  buyer      int NOT NULL,
  identifier text NOT NULL,
  changed    bigint NOT NULL,
  PRIMARY KEY (seller, buyer)
);

CREATE INDEX IF NOT EXISTS customer_changed ON customer (changed);

CREATE TABLE IF NOT EXISTS workload (
  id          int PRIMARY KEY,
  account     int NOT NULL,
  platform    smallint NOT NULL,
  resource_id text NOT NULL,
  region      smallint NOT NULL,
  role        int NOT NULL,
  changed     bigint NOT NULL
);

CREATE INDEX IF NOT EXISTS workload_changed ON workload (changed);

CREATE TABLE IF NOT EXISTS registration (
  workload   int NOT NULL,
  product    int NOT NULL,
  operation  smallint NOT NULL,
  first_call bigint NOT NULL,
  last_call  bigint NOT NULL,
  PRIMARY KEY (workload, product, operation)
);

CREATE TABLE IF NOT EXISTS principal (
  id      int PRIMARY KEY,
  account int NOT NULL,
  kind    smallint NOT NULL,
  name    text NOT NULL,
  allow   text NOT NULL, -- JSON lists of actions and presets
  deny    text NOT NULL,
  deleted boolean NOT NULL,
  changed bigint NOT NULL
);

CREATE INDEX IF NOT EXISTS principal_changed ON principal (changed);

CREATE TABLE IF NOT EXISTS access_key (
  id            int PRIMARY KEY,
  access_key_id text NOT NULL,
  principal     int NOT NULL,
  sealed        bytea NOT NULL, -- the secret access key under the master key
  active        boolean NOT NULL,
  deleted       boolean NOT NULL,
  created       bigint NOT NULL,
  changed       bigint NOT NULL
);

CREATE INDEX IF NOT EXISTS access_key_changed ON access_key (changed);

CREATE TABLE IF NOT EXISTS admin_token (
  id      int PRIMARY KEY,
  name    text NOT NULL,
  hash    bytea NOT NULL,
  created bigint NOT NULL,
  deleted boolean NOT NULL,
  changed bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS registration_token (
  id        bytea PRIMARY KEY, -- 16 bytes: the time of issue in 6, then random ones
  product   int NOT NULL,
  buyer     int NOT NULL,
  agreement int NOT NULL, -- 0 while the buyer has none
  issued    bigint NOT NULL,
  expires   bigint NOT NULL,
  revoked   boolean NOT NULL
);

-- ClientTokens of MeterUsage, kept for at least 24 hours.
CREATE TABLE IF NOT EXISTS client_token (
  workload   int NOT NULL,
  hash       bytea NOT NULL,
  parameters bytea NOT NULL,
  record     bytea NOT NULL, -- MeteringRecordId
  at         bigint NOT NULL,
  PRIMARY KEY (workload, hash)
);

CREATE INDEX IF NOT EXISTS client_token_at ON client_token (at);

-- One row for each accepted usage record. The primary key is what a record is de-duplicated on: subject stands for
-- whom it is counted for (licence, workload, or product and buyer; for AgentCore runtimes for the ClientToken), meter
-- for dimension * 256 + region. It is the distribution column where rows are spread over several machines. seq is the
-- call's seq * 32 + the record's place in the call, from 0; millis the time as sent, within the hour.
CREATE TABLE IF NOT EXISTS usage (
  seq          bigint NOT NULL,
  subject      bigint NOT NULL,
  hour         int NOT NULL,
  meter        int NOT NULL,
  millis       int NOT NULL,
  product      int NOT NULL,
  buyer        int NOT NULL,
  agreement    int NOT NULL, -- 0 unless named by LicenseArn
  workload     int NOT NULL, -- 0 unless sent by MeterUsage
  quantity     int NOT NULL,
  form         smallint NOT NULL,
  client_token text NOT NULL,  -- empty but for AgentCore
  allocations  bytea NOT NULL, -- empty for none
  PRIMARY KEY (hour, subject, meter)
) PARTITION BY RANGE (hour);

-- One row for each authenticated call and each act of administration. seq is the writer's id * 2^36 + the place among
-- the writer's calls, from 1 without gaps.
CREATE TABLE IF NOT EXISTS call (
  seq        bigint PRIMARY KEY,
  at         bigint NOT NULL,
  request    bytea NOT NULL,    -- request id, 16 bytes, a UUID of version 7
  operation  smallint NOT NULL,
  principal  int NOT NULL,
  access_key int NOT NULL,      -- 0 for a session
  workload   int NOT NULL,
  source     text NOT NULL,     -- the caller's network address
  region     smallint NOT NULL,
  refusal    smallint NOT NULL, -- kind of error, or -1 for none
  usage_rows smallint NOT NULL, -- how many usage rows the call wrote
  usage_keys bytea NOT NULL,    -- their keys
  detail     bytea              -- what cannot be rebuilt from usage rows
);

-- Who writes: a connection of a node from its start to its end. commits counts its transactions; each one begins by
-- counting itself, from the number that the node knows. calls is how many calls were there when the latest one began.
-- A fenced writer commits nothing more. Times are the node's.
CREATE TABLE IF NOT EXISTS writer (
  id      int PRIMARY KEY,
  node    text NOT NULL,
  started bigint NOT NULL,
  at      bigint NOT NULL, -- of the latest transaction
  commits bigint NOT NULL,
  calls   bigint NOT NULL,
  fenced  boolean NOT NULL
);

-- Who does what only one node may do at a time. token grows with each new holder.
CREATE TABLE IF NOT EXISTS lease (
  name    text PRIMARY KEY,
  holder  text NOT NULL,
  token   bigint NOT NULL,
  expires timestamptz NOT NULL
);
