-- What is looked at often must not cost more as ended jobs pile up: an owner's list by arrival, and the waiting
-- jobs with all that choosing the next one needs.
CREATE INDEX jobs_by_arrival ON jobs (owner, arrival);
DROP INDEX jobs_waiting;
CREATE INDEX jobs_waiting ON jobs (owner, arrival, model) WHERE state = 'queued';
