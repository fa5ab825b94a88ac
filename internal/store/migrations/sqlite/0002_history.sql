-- One row for each revision of the catalogue since this table was made.
CREATE TABLE revision (
  n    INTEGER PRIMARY KEY,
  mark BLOB NOT NULL -- 16 random bytes
) STRICT;
