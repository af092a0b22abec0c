package mirror

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// suppress keeps the erased from coming back. It also stores the dossiers that somebody must decide about, which cannot be found by
// a name that is gone.
func (c *Certificate) suppress(ctx context.Context, tx pgx.Tx, dossiers []string) error {
	var contact, kept []string
	for _, d := range c.Dossiers {
		if !d.Erased {
			contact, kept = append(contact, d.ContactID), append(kept, d.ID)
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO erasures (token, kind, reason, dossiers)
		SELECT DISTINCT erasure_token($1, k.id), $1, $3,
		       (SELECT array_agg(DISTINCT d.id) FROM unnest($4::text[], $5::text[]) AS d (contact_id, id) WHERE d.contact_id = k.id)
		FROM unnest($2::text[]) AS k (id)
		ON CONFLICT (token) DO UPDATE SET dossiers = excluded.dossiers,
			reason = CASE excluded.reason WHEN '`+ErasedByCommand+`' THEN excluded.reason ELSE erasures.reason END`,
		mappings.Contacts, c.Contacts, c.Reason, contact, kept)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO erasures (token, kind, reason)
		SELECT DISTINCT erasure_token($1, k.id), $1, $3 FROM unnest($2::text[]) AS k (id)
		ON CONFLICT (token) DO UPDATE SET reason = excluded.reason
		WHERE excluded.reason = '`+ErasedByCommand+`' AND erasures.reason <> excluded.reason`, mappings.Dossiers, dossiers, c.Reason)
	return err
}

// suppressed finds, by position, which of the ids are in erasures, and whether because LeadGrid had deleted them.
const suppressed = `
	SELECT k.n, e.reason = '` + ErasedUpstream + `' FROM unnest($1::text[]) WITH ORDINALITY AS k (id, n)
	JOIN erasures e ON e.token = erasure_token($2, k.id)`

// queueSuppressed looks up which of the sightings are about an erased person: only what remains may be stored of those, whatever
// the read showed (promise 11). A contact or dossier that was erased because LeadGrid had deleted it, and that a later read
// shows again, is back: LeadGrid was wrong, or undid the deletion.
func (t *table) queueSuppressed(batch *pgx.Batch, reads []*Read) {
	if !t.erasable() {
		return
	}
	var sightings []*sighting
	var ids []string
	var numbers []int64
	of := mappings.Dossiers
	for _, read := range reads {
		for _, s := range read.sightings {
			sightings, numbers = append(sightings, s), append(numbers, read.Number)
			id := s.row.id()
			if t.mapping.Kind == mappings.Notes {
				id = t.parentIn(read, s)
			}
			ids = append(ids, id)
		}
	}
	if t.mapping.Kind == mappings.Contacts || t.mapping.Kind == mappings.Links {
		of = mappings.Contacts
	}
	returns := t.mapping.Kind == of // links and notes come back with their contact or dossier
	batch.Queue(suppressed, ids, of).Query(func(r pgx.Rows) error {
		var n int64
		var deleted bool
		_, err := pgx.ForEachRow(r, []any{&n, &deleted}, func() error {
			s := sightings[n-1]
			if deleted && returns && s.row.deleted && s.row.later < numbers[n-1] {
				s.row.returned = true
				return nil
			}
			s.row.erased = true
			s.told = t.withoutPerson(s.object())
			s.body, s.hash = encode(s.told), t.hash(s.told)
			return nil
		})
		return err
	})
}

// restore takes back the erasure of contacts and dossiers that LeadGrid shows again.
func (m *Mirror) restore(ctx context.Context, tx pgx.Tx, kind mappings.Kind, rows []*row) error {
	var back []string
	for _, row := range rows {
		if row.returned {
			back = append(back, row.id())
		}
	}
	if len(back) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `DELETE FROM erasures WHERE token IN (SELECT erasure_token($1, k.id) FROM unnest($2::text[]) AS k (id))`,
		kind, back)
	if err != nil {
		return fmt.Errorf("take back the erasure of people who are back: %w", err)
	}
	return nil
}
