-- Dimensions have a table of their own since the step before.
ALTER TABLE product DROP COLUMN dimensions;

-- dimension * 65536 + region * 256 + form. In PostgreSQL meter is dimension * 256 + region.
ALTER TABLE usage RENAME COLUMN meter TO dimension_region_form;
