-- Permissions of users and roles as a policy document, beside their lists. Nodes before would not heed it.
--
-- least: 7

-- JSON; empty if there is none.
ALTER TABLE principal ADD COLUMN IF NOT EXISTS policy text NOT NULL DEFAULT '';
