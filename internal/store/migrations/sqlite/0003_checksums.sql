-- The running checksum of the catalogue, 32 bytes; none of revisions before this step.
ALTER TABLE revision ADD COLUMN sum BLOB NOT NULL DEFAULT x'';
