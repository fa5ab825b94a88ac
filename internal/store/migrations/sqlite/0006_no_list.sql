-- Dimensions have a table of their own since the step before.
ALTER TABLE product DROP COLUMN dimensions;
