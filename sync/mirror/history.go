package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// clockSlack is how far LeadGrid's clock and the database's may disagree when an event's time is compared with the two
// observations between which a stage was entered.
const clockSlack = time.Minute

// entered is a stage that a dossier has entered, as a read shows.
type entered struct {
	dossier, stage string
	read           *Read
	known          bool // the dossier was known before
}

// enter notes a dossier that a read shows in another stage than it is known in. Merged is nil where nothing was known of it.
func (s *state) enter(row *row, shown *sighting, merged mappings.Object, read *Read) {
	stage := text(merged, "current_stage_id")
	if merged == nil {
		stage = stringIn(member(shown.body, "current_stage_id"))
	}
	if stage == "" || row.exists && stage == text(row.known, "current_stage_id") {
		return
	}
	s.entered = append(s.entered, entered{row.id(), stage, read, row.exists})
}

// queueStages adds the stages that reads found entered to the history: some time after the dossier was last seen in another stage,
// and before that read. It adds nothing if an event has already given the exact time.
func queueStages(batch *pgx.Batch, stages []entered) {
	if len(stages) == 0 {
		return
	}
	dossiers, ids := make([]string, len(stages)), make([]string, len(stages))
	began, numbers, known := make([]time.Time, len(stages)), make([]int64, len(stages)), make([]bool, len(stages))
	for i, e := range stages {
		dossiers[i], ids[i], began[i], numbers[i], known[i] = e.dossier, e.stage, e.read.BeganAt, e.read.Number, e.known
	}
	batch.Queue(`
		WITH entered AS (
			SELECT x.*, CASE WHEN x.known THEN greatest(
				(SELECT began_at FROM sync_reads WHERE kind = 'dossiers' AND id = x.dossier_id),
				(SELECT complete_as_of FROM sync_freshness WHERE table_name = 'dossiers'),
				(SELECT max(coalesce(entered_at, entered_before)) FROM dossier_stage_history h WHERE h.dossier_id = x.dossier_id)
			) END AS seen_at
			FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::boolean[]) WITH ORDINALITY
				AS x (dossier_id, stage_id, began_at, observation, known, n)
		)
		INSERT INTO dossier_stage_history (dossier_id, stage_id, entered_after, entered_before, source, observation)
		SELECT e.dossier_id, e.stage_id, e.seen_at, e.began_at, 'observed', e.observation
		FROM entered e
		WHERE NOT EXISTS (
			SELECT FROM dossier_stage_history h
			WHERE h.dossier_id = e.dossier_id AND h.stage_id = e.stage_id AND h.source = 'event'
			  AND h.entered_at >= coalesce(e.seen_at, '-infinity') - $6::interval
			  AND h.entered_at <= e.began_at + $6::interval)
		ORDER BY e.n`,
		dossiers, ids, began, numbers, known, clockSlack)
}

// StageEntered says when a dossier entered a stage, according to a stage_changed event.
type StageEntered struct {
	EventID   string
	DossierID string
	StageID   string
	At        time.Time
}

// RecordStages adds events to the history, each once. An observation of the same stage whose span contains the event's time was
// the same entry, less exact, and is removed.
func (m *Mirror) RecordStages(ctx context.Context, tx pgx.Tx, entered []StageEntered) error {
	batch := &pgx.Batch{}
	for _, e := range entered {
		batch.Queue(`
			WITH added AS (
				INSERT INTO dossier_stage_history (dossier_id, stage_id, entered_at, source, event_id)
				VALUES ($1, $2, $3::timestamptz, 'event', $4) ON CONFLICT (event_id) DO NOTHING RETURNING id
			)
			DELETE FROM dossier_stage_history
			WHERE id = (
				SELECT h.id FROM dossier_stage_history h
				WHERE EXISTS (SELECT FROM added) AND h.dossier_id = $1 AND h.stage_id = $2 AND h.source = 'observed'
				  AND $3::timestamptz >= coalesce(h.entered_after, '-infinity') - $5::interval
				  AND $3::timestamptz <= h.entered_before + $5::interval
				ORDER BY h.id LIMIT 1)`,
			e.DossierID, e.StageID, e.At, e.EventID, clockSlack)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("record stages: %w", err)
	}
	return nil
}

// SettleStages makes the histories of dossiers end with the stage that they are known to be in: of those in ids, or of all if a
// complete list that began at asOf has shown them. Where it ends otherwise, either an event's time lies a little before a read
// that came before the event, because the clocks disagree or LeadGrid's times are rounded; the two change places. Or the dossier
// has moved on since, and nobody has told; then it did so between the last entry and a read that began when no replica could
// be behind that any more.
func (m *Mirror) SettleStages(ctx context.Context, tx pgx.Tx, ids []string, asOf time.Time) error {
	_, err := tx.Exec(ctx, `
		WITH entries AS (
			SELECT h.*, coalesce(h.entered_at, h.entered_before) AS at, d.current_stage_id AS stage,
			       greatest(r.began_at, $2::timestamptz) AS seen_at, r.observation AS read,
			       row_number() OVER latest AS n,
			       lead(h.source = 'event' AND h.stage_id = d.current_stage_id) OVER latest AS told,
			       lead(h.entered_at) OVER latest AS told_at
			FROM dossiers d
			JOIN dossier_stage_history h ON h.dossier_id = d.id
			LEFT JOIN sync_reads r ON r.kind = 'dossiers' AND r.id = d.id
			WHERE ($1::text[] IS NULL OR d.id = ANY ($1)) AND d._deleted_at IS NULL AND d.current_stage_id IS NOT NULL
			WINDOW latest AS (PARTITION BY h.dossier_id ORDER BY coalesce(h.entered_at, h.entered_before) DESC, h.id DESC)
		), wrong AS (
			SELECT *, coalesce(source = 'observed' AND told AND told_at >= at - $3::interval, false) AS swap
			FROM entries WHERE n = 1 AND stage_id IS DISTINCT FROM stage
		), swapped AS (
			UPDATE dossier_stage_history h
			SET entered_before = w.told_at - interval '1 microsecond',
			    entered_after = least(h.entered_after, w.told_at - interval '1 microsecond')
			FROM wrong w WHERE w.swap AND h.id = w.id
		)
		INSERT INTO dossier_stage_history (dossier_id, stage_id, entered_after, entered_before, source, observation)
		SELECT dossier_id, stage, at, seen_at, 'observed', read
		FROM wrong WHERE NOT swap AND seen_at > at + $4::interval
		ORDER BY dossier_id`,
		ids, pgtype.Timestamptz{Time: asOf, Valid: !asOf.IsZero()}, clockSlack, m.lag)
	if err != nil {
		return fmt.Errorf("settle stages: %w", err)
	}
	return nil
}
