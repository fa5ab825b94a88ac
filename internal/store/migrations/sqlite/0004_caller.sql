-- Who called, once a day for all calls of the same caller, and where the calls of each hour begin.

ALTER TABLE call ADD COLUMN client INTEGER NOT NULL DEFAULT 0; -- seq of the call, this one or an earlier one, that has source, agent and session; 0 if the row itself does, and no other refers to it
ALTER TABLE call ADD COLUMN agent TEXT NOT NULL DEFAULT '';    -- the caller's User-Agent header
ALTER TABLE call ADD COLUMN session TEXT NOT NULL DEFAULT '';  -- of temporary credentials: JSON

-- Runs of calls: from one first to the next of the same writer, calls are of one hour and in the order of their times.
CREATE TABLE call_hour (
  first INTEGER PRIMARY KEY, -- seq of a call
  hour  INTEGER NOT NULL
) STRICT;

CREATE INDEX call_hour_hour ON call_hour (hour);
