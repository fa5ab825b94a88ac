-- Permissions of users and roles as a policy document, beside their lists.

ALTER TABLE principal ADD COLUMN policy TEXT NOT NULL DEFAULT ''; -- JSON; empty if there is none
