-- +goose Up

-- The views an analyst would otherwise write. Columns may be added to them, at the end, and never change or go.
-- What nobody can know is not made up: a time that was only seen in between two reads is a pair of bounds.

CREATE VIEW stage_visits AS
WITH entries AS (
    SELECT h.dossier_id, h.stage_id, h.entered_at, h.id,
           coalesce(h.entered_at, greatest(h.entered_after, d.created_at)) AS entered_earliest,
           coalesce(h.entered_at, h.entered_before) AS entered_latest,
           h.stage_id IS NOT DISTINCT FROM lag(h.stage_id) OVER w AND row_number() OVER w > 1 AS again,
           d.current_stage_id, d.status, d._deleted_at
    FROM dossier_stage_history h
    LEFT JOIN dossiers d ON d.id = h.dossier_id
    WINDOW w AS (PARTITION BY h.dossier_id ORDER BY coalesce(h.entered_at, h.entered_before), h.id)
), visits AS (
    SELECT e.*,
           row_number() OVER w AS visit,
           lead(e.id) OVER w IS NULL AS last,
           lead(e.stage_id) OVER w AS next_stage_id,
           lead(e.entered_at) OVER w AS left_at,
           lead(e.entered_earliest) OVER w AS left_earliest,
           lead(e.entered_latest) OVER w AS left_latest
    FROM entries e
    WHERE NOT e.again
    WINDOW w AS (PARTITION BY e.dossier_id ORDER BY e.entered_latest, e.id)
), judged AS (
    SELECT v.*,
           v.last AND v.stage_id = v.current_stage_id AND v._deleted_at IS NULL AS is_current,
           v.last AND v.stage_id = v.current_stage_id AND v._deleted_at IS NULL
               AND coalesce(v.status, '') NOT IN ('won', 'lost', 'archived') AS is_open
    FROM visits v
)
SELECT dossier_id, visit, stage_id, next_stage_id, is_current,
       entered_at, entered_earliest, entered_latest,
       left_at, left_earliest, left_latest,
       entered_at IS NOT NULL AND (left_at IS NOT NULL OR is_open) AS is_exact,
       greatest(round(extract(epoch FROM until_earliest - entered_latest) / 86400, 2),
                CASE WHEN until_earliest IS NOT NULL THEN 0 END) AS days_min,
       round(extract(epoch FROM until_latest - entered_earliest) / 86400, 2) AS days_max
FROM (
    SELECT j.*,
           CASE WHEN is_open THEN now() ELSE left_earliest END AS until_earliest,
           CASE WHEN is_open THEN now() ELSE left_latest END AS until_latest
    FROM judged j
) timed;
COMMENT ON VIEW stage_visits IS 'Each stay of a dossier in a stage: when it began and ended, exactly or between two bounds, and how long it took';
COMMENT ON COLUMN stage_visits.is_current IS 'the dossier is in that stage now';
COMMENT ON COLUMN stage_visits.entered_at IS 'exact, from an event; null where it is only known to lie between entered_earliest and entered_latest';
COMMENT ON COLUMN stage_visits.days_min IS 'at least; of an open dossier until now; null where nobody knows when a closed one left';

CREATE VIEW pipeline AS
SELECT d.id AS dossier_id, d.type, d.name, d.company, d.status, d.assigned_to,
       d.flow_id, f.name AS flow_name,
       d.current_stage_id AS stage_id, s.name AS stage_name, s.position AS stage_position,
       v.entered_at, v.entered_earliest, v.entered_latest,
       v.days_min AS days_in_stage_min, v.days_max AS days_in_stage_max,
       s.deadline_days,
       CASE WHEN s.deadline_days BETWEEN 0 AND 36500 THEN v.entered_earliest + s.deadline_days::float8 * interval '1 day' END AS deadline_earliest,
       CASE WHEN s.deadline_days BETWEEN 0 AND 36500 THEN v.entered_latest + s.deadline_days::float8 * interval '1 day' END AS deadline_latest,
       CASE WHEN s.deadline_days IS NULL THEN false
            WHEN v.days_min > s.deadline_days THEN true
            WHEN v.days_max <= s.deadline_days THEN false END AS overdue,
       d.deal_size, d.deal_currency, s.win_probability,
       d.deal_size * s.win_probability * 0.01 AS weighted_size,
       d.created_at
FROM dossiers d
LEFT JOIN stages s ON s.id = d.current_stage_id
LEFT JOIN flows f ON f.id = coalesce(d.flow_id, s.flow_id)
LEFT JOIN stage_visits v ON v.dossier_id = d.id AND v.is_current
WHERE d._deleted_at IS NULL AND coalesce(d.status, '') NOT IN ('won', 'lost', 'archived');
COMMENT ON VIEW pipeline IS 'Dossiers under way, with the names of their flow and stage, how long they have been in it, and whether they are overdue';
COMMENT ON COLUMN pipeline.overdue IS 'true and false are certain; null: it depends on when, between two reads, the stage was entered';

CREATE VIEW stage_conversion AS
WITH outcomes AS (
    SELECT v.*,
           CASE WHEN NOT v.is_current AND v.next_stage_id IS NULL THEN 'unknown'
                WHEN v.is_current AND d.status IN ('won', 'lost', 'archived') THEN d.status
                WHEN v.is_current THEN 'waiting'
                WHEN next.flow_id IS NOT DISTINCT FROM here.flow_id AND next.position > here.position THEN 'advanced'
                WHEN next.flow_id IS NOT DISTINCT FROM here.flow_id AND next.position < here.position THEN 'returned'
                ELSE 'elsewhere' END AS outcome
    FROM stage_visits v
    LEFT JOIN dossiers d ON d.id = v.dossier_id
    LEFT JOIN stages here ON here.id = v.stage_id
    LEFT JOIN stages next ON next.id = v.next_stage_id
)
SELECT s.flow_id, f.name AS flow_name, s.id AS stage_id, s.name AS stage_name, s.position,
       count(o.dossier_id) AS entered,
       count(*) FILTER (WHERE o.outcome = 'waiting') AS waiting,
       count(*) FILTER (WHERE o.outcome = 'advanced') AS advanced,
       count(*) FILTER (WHERE o.outcome = 'returned') AS returned,
       count(*) FILTER (WHERE o.outcome = 'won') AS won,
       count(*) FILTER (WHERE o.outcome = 'lost') AS lost,
       count(*) FILTER (WHERE o.outcome = 'archived') AS archived,
       count(*) FILTER (WHERE o.outcome IN ('elsewhere', 'unknown')) AS elsewhere,
       round(count(*) FILTER (WHERE o.outcome IN ('advanced', 'won'))::numeric
             / nullif(count(*) FILTER (WHERE o.outcome <> 'waiting'), 0), 4) AS conversion,
       count(*) FILTER (WHERE o.days_max IS NOT NULL AND o.outcome <> 'waiting') AS timed,
       count(*) FILTER (WHERE o.is_exact AND o.outcome <> 'waiting') AS timed_exactly,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY o.days_min::float8) FILTER (WHERE o.days_max IS NOT NULL AND o.outcome <> 'waiting') AS median_days_min,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY o.days_max::float8) FILTER (WHERE o.days_max IS NOT NULL AND o.outcome <> 'waiting') AS median_days_max
FROM stages s
LEFT JOIN flows f ON f.id = s.flow_id
LEFT JOIN outcomes o ON o.stage_id = s.id
WHERE s._deleted_at IS NULL
GROUP BY s.flow_id, f.name, s.id, s.name, s.position;
COMMENT ON VIEW stage_conversion IS 'Per stage: how many stays there were, how they ended, and how long they took';
COMMENT ON COLUMN stage_conversion.conversion IS 'of the stays that have ended, the share that went to a later stage of the flow or was won';
COMMENT ON COLUMN stage_conversion.median_days_min IS 'the median lies between this and median_days_max; they are equal where all stays are timed_exactly';

CREATE VIEW forecast AS
SELECT deal_currency,
       count(*) AS dossiers,
       sum(deal_size) AS total,
       sum(weighted_size) AS weighted,
       count(*) FILTER (WHERE deal_size IS NULL) AS without_size,
       count(*) FILTER (WHERE deal_size IS NOT NULL AND win_probability IS NULL) AS without_probability,
       sum(deal_size) FILTER (WHERE win_probability IS NULL) AS total_without_probability
FROM pipeline
WHERE type = 'sales' OR deal_size IS NOT NULL
GROUP BY deal_currency;
COMMENT ON VIEW forecast IS 'What the pipeline is worth, by currency; weighted leaves out, and the last columns count, what has no size or no probability';

CREATE VIEW contact_dossiers AS
SELECT c.id AS contact_id, c.full_name, c.email, c.company, c.kind, c.pool,
       d.id AS dossier_id, d.name AS dossier_name, d.type AS dossier_type, d.status AS dossier_status,
       s.name AS stage_name, l.role_on_dossier, l.is_primary
FROM contacts c
LEFT JOIN dossier_contacts l ON l.contact_id = c.id AND l._deleted_at IS NULL
LEFT JOIN dossiers d ON d.id = l.dossier_id AND d._deleted_at IS NULL
LEFT JOIN stages s ON s.id = d.current_stage_id
WHERE c._deleted_at IS NULL AND c._erased_at IS NULL;
COMMENT ON VIEW contact_dossiers IS 'Contacts with the dossiers they are on; a contact without one is there once, with nulls';

-- The customer's own rule on how long people are kept: theirs to change.
CREATE TABLE retention_rule (
    singleton      boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    expired_pool   boolean NOT NULL DEFAULT true,
    inactive_after interval DEFAULT '2 years'
);
COMMENT ON TABLE retention_rule IS 'when a person is kept too long; people_past_retention lists them. Change it with UPDATE';
COMMENT ON COLUMN retention_rule.expired_pool IS 'a contact whose pool has expired is past retention';
COMMENT ON COLUMN retention_rule.inactive_after IS 'so is one without a dossier under way and without activity for so long; null: never';
INSERT INTO retention_rule DEFAULT VALUES;

CREATE VIEW people_past_retention AS
WITH activity AS (
    SELECT l.contact_id,
           count(*) FILTER (WHERE coalesce(d.status, '') NOT IN ('won', 'lost', 'archived')) AS open_dossiers,
           max(greatest(d.created_at, d.updated_at,
               (SELECT max(n.created_at) FROM notes n WHERE n.dossier_id = d.id AND n._deleted_at IS NULL),
               (SELECT max(coalesce(h.entered_at, h.entered_after)) FROM dossier_stage_history h WHERE h.dossier_id = d.id))) AS last_activity
    FROM dossier_contacts l JOIN dossiers d ON d.id = l.dossier_id
    WHERE l._deleted_at IS NULL AND d._deleted_at IS NULL
    GROUP BY l.contact_id
)
SELECT p.* FROM (
    SELECT c.id AS contact_id, c.full_name, c.email, c.kind, c.pool,
           coalesce(a.open_dossiers, 0) AS open_dossiers,
           greatest(c.created_at, a.last_activity) AS last_activity,
           r.expired_pool AND coalesce(c.pool = 'expired', false) AS pool_expired,
           coalesce(a.open_dossiers, 0) = 0
               AND coalesce(greatest(c.created_at, a.last_activity) < now() - r.inactive_after, false) AS inactive
    FROM contacts c
    CROSS JOIN retention_rule r
    LEFT JOIN activity a ON a.contact_id = c.id
    WHERE c._deleted_at IS NULL AND c._erased_at IS NULL
) p
WHERE p.pool_expired OR p.inactive;
COMMENT ON VIEW people_past_retention IS 'Contacts that retention_rule says are kept too long, and why: to be deleted in LeadGrid, or erased here by worker erase';
COMMENT ON COLUMN people_past_retention.last_activity IS 'the latest of: the contact or a dossier of theirs was created or updated, entered a stage, or got a note';
