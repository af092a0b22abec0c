package mirror

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// mentioning selects the keys of the rows whose text mentions one of the words in $1, as they are or as JSON writes them. It
// reads and lower-cases each text only once, however many words there are: an event has hundreds of bytes, a removal of many
// people has hundreds of words, and all writers wait meanwhile.
func mentioning(key, table, text, where string) string {
	return `SELECT ` + key + ` FROM (SELECT ` + key + `, lower(` + text + `) AS plain FROM ` + table + ` WHERE ` + where + ` OFFSET 0) AS texts
		WHERE EXISTS (SELECT FROM (
			SELECT lower(word) AS word FROM unnest($1::text[]) AS word
			UNION SELECT lower(substr(json, 2, length(json) - 2)) FROM (SELECT to_jsonb(word)::text AS json FROM unnest($1::text[]) AS word) AS words
		) AS words WHERE position(word in plain) > 0)`
}

// eraseTraces removes people from everything but mirrored rows.
func (m *Mirror) eraseTraces(ctx context.Context, tx pgx.Tx, p *people, certificate *Certificate) error {
	for _, step := range []func(context.Context, pgx.Tx, *people, *Certificate) error{
		eraseEvents, eraseOddities, eraseCommands, m.eraseJobs,
	} {
		if err := step(ctx, tx, p, certificate); err != nil {
			return err
		}
	}
	return nil
}

// eraseEvents empties the events that mention them, and all events of the dossiers about them: an older one may know them
// by a name or an address they have had. Id, type, times and the hash stay, unless they say who it was.
func eraseEvents(ctx context.Context, tx pgx.Tx, p *people, certificate *Certificate) error {
	tag, err := tx.Exec(ctx, `
		UPDATE webhook_events SET payload = NULL, body = NULL
		WHERE (payload IS NOT NULL OR body IS NOT NULL) AND (dossier_id = ANY ($2)
		       OR digest IN (`+mentioning("digest", "webhook_events", "payload::text", "payload IS NOT NULL")+`))`, p.wordsAndIDs(), p.dossiers)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	n := tag.RowsAffected()
	odd, err := bodiesAbout(ctx, tx, p, `SELECT digest, body FROM webhook_events WHERE body IS NOT NULL`)
	if err != nil {
		return fmt.Errorf("odd events: %w", err)
	}
	if tag, err = tx.Exec(ctx, `UPDATE webhook_events SET body = NULL WHERE digest = ANY ($1)`, odd); err != nil {
		return fmt.Errorf("odd events: %w", err)
	}
	certificate.add("webhook_events", n+tag.RowsAffected(), "payload and body; id, type, times and hash stay")
	tag, err = tx.Exec(ctx, `
		UPDATE webhook_events SET id = 'sha256:' || encode(digest, 'hex'), type = NULL
		WHERE digest IN (`+mentioning("digest", "webhook_events", "concat_ws(' ', id, type)", "true")+`)`, p.words)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	certificate.add("webhook_events", tag.RowsAffected(), "an id or type that named them")
	return nil
}

// bodiesAbout reads bodies that are no JSON Postgres could read, and returns the digests of those that mention them.
func bodiesAbout(ctx context.Context, tx pgx.Tx, p *people, sql string) (digests [][]byte, err error) {
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	var digest, body []byte
	_, err = pgx.ForEachRow(rows, []any{&digest, &body}, func() error {
		if p.in(body) {
			digests = append(digests, append([]byte{}, digest...))
		}
		return nil
	})
	return digests, err
}

// eraseOddities deletes objects without an id that mention them.
func eraseOddities(ctx context.Context, tx pgx.Tx, p *people, certificate *Certificate) error {
	digests, err := bodiesAbout(ctx, tx, p, `SELECT digest, body FROM sync_oddities`)
	if err != nil {
		return fmt.Errorf("oddities: %w", err)
	}
	tag, err := tx.Exec(ctx, `DELETE FROM sync_oddities WHERE digest = ANY ($1)`, digests)
	if err != nil {
		return fmt.Errorf("oddities: %w", err)
	}
	certificate.add("sync_oddities", tag.RowsAffected(), "objects without an id")
	return nil
}

// eraseCommands empties the write-back commands about them. Those not yet sent are refused; those just being sent are counted, and
// emptied when they end.
func eraseCommands(ctx context.Context, tx pgx.Tx, p *people, certificate *Certificate) error {
	words := p.wordsAndIDs()
	about := `(contact_id = ANY ($2) OR leadgrid_id = ANY ($2) OR number IN (` +
		mentioning("number", "commands", "concat_ws(' ', arguments, expected, result, evidence, error, cv_filename)", "true") + `))`
	rows, err := tx.Query(ctx, `
		UPDATE commands SET arguments = '{}', expected = NULL, result = NULL, evidence = NULL, cv_filename = NULL, cv_sha256 = NULL,
		       state = CASE state WHEN 'pending' THEN 'refused' ELSE state END,
		       due_at = CASE state WHEN 'pending' THEN NULL ELSE due_at END,
		       finished_at = coalesce(finished_at, now()),
		       error = CASE WHEN state = 'pending' THEN 'not sent: the person was erased' WHEN error IS NOT NULL THEN 'erased' END
		WHERE state IN ('pending', 'done', 'refused') AND `+about+` RETURNING number`, words, p.ids)
	if err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	certificate.add("commands", int64(len(numbers)), "arguments, expectations, results, evidence, errors, the name and hash of a CV")
	tag, err := tx.Exec(ctx, `DELETE FROM command_cvs WHERE number = ANY ($1)`, numbers)
	if err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	certificate.add("command_cvs", tag.RowsAffected(), "CVs")
	if _, err := tx.Exec(ctx, `DELETE FROM command_queue WHERE number = ANY ($1)`, numbers); err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	tag, err = tx.Exec(ctx, `UPDATE commands SET _erase = true WHERE state IN ('sending', 'unknown') AND `+about, words, p.ids)
	if err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	certificate.UnderWay = int(tag.RowsAffected())
	return nil
}

// eraseJobs cleans the queue. Our jobs' arguments are only numbers, ids and hashes, and their errors only ids and statuses, but
// somebody may have added jobs by hand, or a driver's error may quote data.
func (m *Mirror) eraseJobs(ctx context.Context, tx pgx.Tx, p *people, certificate *Certificate) error {
	if m.queue == "" {
		return nil
	}
	jobs := pgx.Identifier{m.queue, "river_job"}.Sanitize()
	tag, err := tx.Exec(ctx, `DELETE FROM `+jobs+` WHERE id IN (`+mentioning("id", jobs, "concat_ws(' ', args, metadata, array_to_string(tags, ' '))", "true")+`)`, p.words)
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	certificate.add(m.queue+".river_job", tag.RowsAffected(), "jobs whose arguments named them")
	tag, err = tx.Exec(ctx, `UPDATE `+jobs+` SET errors = NULL WHERE id IN (`+mentioning("id", jobs, "array_to_string(errors, ' ')", "errors IS NOT NULL")+`)`, p.words)
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	certificate.add(m.queue+".river_job", tag.RowsAffected(), "errors")
	return nil
}
