-- Marks, by which a node notices that the database has gone back in time.
--
-- least: 2

-- One row for each revision of the catalogue since this table was made.
CREATE TABLE IF NOT EXISTS revision (
  n    bigint PRIMARY KEY,
  mark bytea NOT NULL -- 16 random bytes
);

-- 16 random bytes, of who has taken the number; none for who is fenced.
ALTER TABLE writer ADD COLUMN IF NOT EXISTS mark bytea NOT NULL DEFAULT '';
