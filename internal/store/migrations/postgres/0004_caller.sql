-- Who called, once a day for all calls of the same caller, and where the calls of each hour begin.
--
-- least: 4

-- seq of the call, this one or an earlier one, that has source, agent and session; 0 if the row itself does, and no other
-- refers to it.
ALTER TABLE call ADD COLUMN IF NOT EXISTS client bigint NOT NULL DEFAULT 0;

-- The caller's User-Agent header.
ALTER TABLE call ADD COLUMN IF NOT EXISTS agent text NOT NULL DEFAULT '';

-- Of temporary credentials: JSON.
ALTER TABLE call ADD COLUMN IF NOT EXISTS session text NOT NULL DEFAULT '';

-- Runs of calls: from one first to the next of the same writer, calls are of one hour and in the order of their times.
CREATE TABLE IF NOT EXISTS call_hour (
  first bigint PRIMARY KEY, -- seq of a call
  hour  int NOT NULL
);

CREATE INDEX IF NOT EXISTS call_hour_hour ON call_hour (hour);
