-- +goose Up

-- A dossier whose stage is gone from LeadGrid has neither its name nor its probability any more: a forecast that went on with
-- what the stage had would be wrong and look right. (The views are otherwise those of 00006.)
CREATE OR REPLACE VIEW pipeline AS
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
LEFT JOIN stages s ON s.id = d.current_stage_id AND s._deleted_at IS NULL
LEFT JOIN flows f ON f.id = coalesce(d.flow_id, s.flow_id) AND f._deleted_at IS NULL
LEFT JOIN stage_visits v ON v.dossier_id = d.id AND v.is_current
WHERE d._deleted_at IS NULL AND coalesce(d.status, '') NOT IN ('won', 'lost', 'archived');

CREATE OR REPLACE VIEW contact_dossiers AS
SELECT c.id AS contact_id, c.full_name, c.email, c.company, c.kind, c.pool,
       d.id AS dossier_id, d.name AS dossier_name, d.type AS dossier_type, d.status AS dossier_status,
       s.name AS stage_name, l.role_on_dossier, l.is_primary
FROM contacts c
LEFT JOIN dossier_contacts l ON l.contact_id = c.id AND l._deleted_at IS NULL
LEFT JOIN dossiers d ON d.id = l.dossier_id AND d._deleted_at IS NULL
LEFT JOIN stages s ON s.id = d.current_stage_id AND s._deleted_at IS NULL
WHERE c._deleted_at IS NULL AND c._erased_at IS NULL;

-- +goose Down

CREATE OR REPLACE VIEW pipeline AS
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

CREATE OR REPLACE VIEW contact_dossiers AS
SELECT c.id AS contact_id, c.full_name, c.email, c.company, c.kind, c.pool,
       d.id AS dossier_id, d.name AS dossier_name, d.type AS dossier_type, d.status AS dossier_status,
       s.name AS stage_name, l.role_on_dossier, l.is_primary
FROM contacts c
LEFT JOIN dossier_contacts l ON l.contact_id = c.id AND l._deleted_at IS NULL
LEFT JOIN dossiers d ON d.id = l.dossier_id AND d._deleted_at IS NULL
LEFT JOIN stages s ON s.id = d.current_stage_id
WHERE c._deleted_at IS NULL AND c._erased_at IS NULL;
