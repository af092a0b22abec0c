package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// clockSlack is how far LeadGrid's clock and the database's may disagree when an event's time is held against the two
// observations a stage was entered between.
const clockSlack = time.Minute

// queueStages records the stages that a read found entered. They were entered after the dossier was last seen in another
// stage and before this read; where an event has already told when, exactly, nothing is added.
func queueStages(batch *pgx.Batch, read Read, changed []*row) {
	for _, row := range changed {
		stage, before := text(row.merged, "current_stage_id"), text(row.known, "current_stage_id")
		if stage == "" || (row.exists && stage == before) {
			continue
		}
		batch.Queue(`
			WITH last AS (
				SELECT greatest(
					(SELECT began_at FROM sync_reads WHERE kind = 'dossiers' AND id = $1),
					(SELECT complete_as_of FROM sync_freshness WHERE table_name = 'dossiers'),
					(SELECT max(coalesce(entered_at, entered_before)) FROM dossier_stage_history WHERE dossier_id = $1)
				) AS seen_at WHERE $6::boolean
			)
			INSERT INTO dossier_stage_history (dossier_id, stage_id, entered_after, entered_before, source, observation)
			SELECT $1, $2, (SELECT seen_at FROM last), $3::timestamptz, 'observed', $4::bigint
			WHERE NOT EXISTS (
				SELECT FROM dossier_stage_history h
				WHERE h.dossier_id = $1 AND h.stage_id = $2 AND h.source = 'event'
				  AND h.entered_at >= coalesce((SELECT seen_at FROM last), '-infinity') - $5::interval
				  AND h.entered_at <= $3::timestamptz + $5::interval)`,
			row.id(), stage, read.BeganAt, read.Number, clockSlack, row.exists)
	}
}

// StageEntered is a stage_changed event's word on when a dossier entered a stage.
type StageEntered struct {
	EventID   string
	DossierID string
	StageID   string
	At        time.Time
}

// RecordStages adds what events tell to the history, each event once. An observation of the same stage whose span holds
// the event's time was the same entry seen less exactly, and makes way.
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
