-- Dimensions have a table of their own since the step before.
--
-- least: 6

ALTER TABLE product DROP COLUMN IF EXISTS dimensions;
