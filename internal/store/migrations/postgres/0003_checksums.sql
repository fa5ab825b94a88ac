-- The running checksum of the catalogue, 32 bytes; none of revisions before this step.
--
-- least: 3

ALTER TABLE revision ADD COLUMN IF NOT EXISTS sum bytea NOT NULL DEFAULT '';
