-- Dimensions of products. They are added, and never renamed or removed: usage rows count them.
CREATE TABLE dimension (
  product       INTEGER NOT NULL,
  n             INTEGER NOT NULL, -- its place among the product's, from 1
  dimension_key TEXT NOT NULL,    -- API name
  name          TEXT NOT NULL,
  description   TEXT NOT NULL,
  unit          TEXT NOT NULL,
  type          INTEGER NOT NULL,
  changed       INTEGER NOT NULL,
  PRIMARY KEY (product, n)
) STRICT, WITHOUT ROWID;
