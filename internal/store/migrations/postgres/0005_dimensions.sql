-- Dimensions of products. They are added, and never renamed or removed: usage rows count them.
--
-- least: 5

CREATE TABLE IF NOT EXISTS dimension (
  product       int NOT NULL,
  n             int NOT NULL, -- its place among the product's, from 1
  dimension_key text NOT NULL, -- API name
  name          text NOT NULL,
  description   text NOT NULL,
  unit          text NOT NULL,
  type          smallint NOT NULL,
  changed       bigint NOT NULL,
  PRIMARY KEY (product, n)
);
