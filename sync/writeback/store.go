package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// store writes the runner's steps into the table commands. Every step is fenced by the number of attempts: an earlier attempt
// can no longer store anything once a later one is under way.
type store struct {
	pool   *pgxpool.Pool
	lease  time.Duration // how long a claimed command is left alone: longer than any attempt lasts
	marker string        // the word of Options.Marker
}

// step stores how far a command has come. It may be tried again until it succeeds.
type step func(context.Context) error

// inTx is the step of a transaction.
func (s *store) inTx(f func(ctx context.Context, tx pgx.Tx) error) step {
	return func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return f(ctx, tx) })
	}
}

// errSuperseded means that the command has been decided otherwise in the meantime.
var errSuperseded = errors.New("the command has been decided otherwise in the meantime")

// claimSends takes up to n pending commands whose turn it is: no earlier unfinished command touches the same objects, and what
// they depend on is done. It marks them as sending, for at most the lease, before their first byte goes out.
func (s *store) claimSends(ctx context.Context, n int) ([]*Command, error) {
	commands, err := collect(s.pool.Query(ctx, `
		WITH ready AS (
			SELECT c.id FROM commands c
			WHERE c.state = 'pending' AND c.due_at <= now()
			  AND NOT EXISTS (
				SELECT FROM command_queue mine JOIN command_queue earlier ON earlier.object = mine.object AND earlier.number < mine.number
				WHERE mine.number = c.number)
			  AND NOT EXISTS (SELECT FROM commands maker WHERE maker.id = ANY (c.depends_on) AND maker.state <> 'done')
			ORDER BY c.number LIMIT $1
			FOR UPDATE OF c SKIP LOCKED
		)
		UPDATE commands c
		SET state = 'sending', attempts = c.attempts + 1, due_at = now() + $2::interval, sent_at = coalesce(c.sent_at, clock_timestamp()),
		    sent = coalesce(c.sent, nextval('observations')),
		    arguments = CASE WHEN $3::text <> '' AND c.operation = 'create_dossier' AND c.sent IS NULL
		            AND strpos(coalesce(c.arguments ->> 'intake_notes', ''), c.id::text) = 0
		        THEN c.arguments || jsonb_build_object('intake_notes',
		            concat_ws(E'\n\n', c.arguments ->> 'intake_notes', format('[%s %s]', $3::text, c.id)))
		        ELSE c.arguments END,
		    dossier_id = coalesce((`+madeBy("dossier")+`), c.dossier_id), contact_id = coalesce((`+madeBy("contact")+`), c.contact_id)
		FROM ready WHERE c.id = ready.id
		RETURNING `+columns, n, s.lease, s.marker))
	if err != nil {
		return nil, fmt.Errorf("claim commands: %w", err)
	}
	return commands, nil
}

// madeBy is a subquery for the object made by the command whose id stands as an argument of this one.
func madeBy(kind string) string {
	return `SELECT maker.leadgrid_id FROM commands maker
		WHERE maker.id = ANY (c.depends_on) AND maker.id::text = lower(c.` + kind + `_id) AND maker.operation = 'create_` + kind + `'`
}

// claimLooks takes up to n commands of unknown outcome that are due to be looked into.
func (s *store) claimLooks(ctx context.Context, n int) ([]*Command, error) {
	return s.claimDue(ctx, n, `c.state = 'unknown'`, `, looks = c.looks + 1`)
}

// claimConfirms takes up to n commands that are done and whose outcome is to be read.
func (s *store) claimConfirms(ctx context.Context, n int) ([]*Command, error) {
	return s.claimDue(ctx, n, `c.state = 'done' AND c.confirms > 0`, ``)
}

func (s *store) claimDue(ctx context.Context, n int, which, andSet string) ([]*Command, error) {
	commands, err := collect(s.pool.Query(ctx, `
		WITH ready AS (
			SELECT c.id FROM commands c WHERE `+which+` AND c.due_at <= now() ORDER BY c.due_at, c.number LIMIT $1
			FOR UPDATE OF c SKIP LOCKED
		)
		UPDATE commands c SET due_at = now() + $2::interval`+andSet+`
		FROM ready WHERE c.id = ready.id
		RETURNING `+columns, n, s.lease))
	if err != nil {
		return nil, fmt.Errorf("claim commands: %w", err)
	}
	return commands, nil
}

// made describes what a command that LeadGrid carried out has made.
type made struct {
	id       string          // LeadGrid's id of what was made or changed
	object   json.RawMessage // LeadGrid's answer, nil if it held no object
	evidence *evidence       // if it was looked up
	confirms int             // how many reads are to confirm it
	confirm  time.Duration   // in how long the first of them is due
}

// done ends a command as carried out, in the caller's transaction.
func (s *store) done(ctx context.Context, tx pgx.Tx, c *Command, m made) error {
	var result *string
	if m.object != nil {
		object, _ := mappings.Storable(m.object)
		text := string(object)
		result = &text
	}
	var found *string
	if m.evidence != nil {
		text := m.evidence.json()
		found = &text
	}
	tag, err := tx.Exec(ctx, `
		UPDATE commands SET state = 'done', leadgrid_id = nullif($3, ''), result = $4, error = NULL,
		       evidence = coalesce($5::jsonb, evidence), answered_at = clock_timestamp(), finished_at = clock_timestamp(),
		       confirms = $6, due_at = now() + $7::interval
		WHERE id = $1::uuid AND attempts = $2 AND state IN ('sending', 'unknown')`,
		c.ID, c.Attempts, m.id, result, found, m.confirms, m.confirm)
	if err != nil {
		return fmt.Errorf("end command %s as done: %w", c.ID, err)
	}
	if tag.RowsAffected() == 0 {
		return errSuperseded
	}
	if kind, ok := c.Operation.makes(); ok {
		// Commands that name it by the command's id now also queue behind those that name it by LeadGrid's.
		_, err := tx.Exec(ctx, `
			INSERT INTO command_queue (object, number)
			SELECT $2, q.number FROM command_queue q WHERE q.object = 'command:' || $1 AND q.number > $3
			ON CONFLICT DO NOTHING`, c.ID, kind+":"+m.id, c.Number)
		if err != nil {
			return fmt.Errorf("hand on the queue of command %s: %w", c.ID, err)
		}
	}
	return s.leaveQueue(ctx, tx, c.Number)
}

// uploadNext stores that a dossier was made without its CV, which is sent next.
func (s *store) uploadNext(ctx context.Context, tx pgx.Tx, c *Command, m made) error {
	tag, err := tx.Exec(ctx, `
		UPDATE commands SET state = 'pending', leadgrid_id = $3, evidence = $4, error = 'the dossier was made without its CV, which is sent next',
		       due_at = now()
		WHERE id = $1::uuid AND attempts = $2 AND state IN ('sending', 'unknown')`, c.ID, c.Attempts, m.id, m.evidence.json())
	if err != nil {
		return fmt.Errorf("note that the CV of command %s is missing: %w", c.ID, err)
	}
	if tag.RowsAffected() == 0 {
		return errSuperseded
	}
	return nil
}

// leaveQueue takes a finished command out of the queue, and forgets its CV.
func (s *store) leaveQueue(ctx context.Context, tx pgx.Tx, number int64) error {
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM command_queue WHERE number = $1`, number)
	batch.Queue(`DELETE FROM command_cvs WHERE number = $1`, number)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("take command %d out of the queue: %w", number, err)
	}
	return nil
}

// refuse ends a command that LeadGrid did not carry out and never will. sent says whether this attempt reached LeadGrid.
func (s *store) refuse(c *Command, reason string, found *evidence, sent bool) step {
	return s.inTx(func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE commands SET state = 'refused', error = $3, evidence = coalesce($4::jsonb, evidence), answered_at = clock_timestamp(),
			       finished_at = clock_timestamp(), due_at = NULL, attempts = attempts - CASE WHEN $5 THEN 0 ELSE 1 END
			WHERE id = $1::uuid AND attempts = $2 AND state IN ('sending', 'unknown')`, c.ID, c.Attempts, reason, found.orNull(), sent)
		if err != nil {
			return fmt.Errorf("end command %s as refused: %w", c.ID, err)
		}
		if tag.RowsAffected() == 0 {
			return errSuperseded
		}
		return s.leaveQueue(ctx, tx, c.Number)
	})
}

// postpone puts a command back, to be sent after a while. counts says whether this attempt counts, because LeadGrid may have
// seen it.
func (s *store) postpone(c *Command, wait time.Duration, reason string, counts bool) step {
	return s.update("postpone", `
		UPDATE commands SET state = 'pending', error = $3, due_at = now() + $4::interval,
		       attempts = attempts - CASE WHEN $5 THEN 0 ELSE 1 END,
		       sent_at = CASE WHEN $5 OR attempts > 1 THEN sent_at END, sent = CASE WHEN $5 OR attempts > 1 THEN sent END
		WHERE id = $1::uuid AND attempts = $2 AND state IN ('sending', 'unknown')`,
		c.ID, c.Attempts, reason, wait, counts)
}

// doubt marks a command as unknown: nobody knows whether LeadGrid carried it out. A look can prove from certain on that it did not.
func (s *store) doubt(c *Command, reason string, first, certain time.Duration, happened bool) step {
	return s.update("doubt", `
		UPDATE commands SET state = 'unknown', error = $3, due_at = now() + $4::interval, certain_at = now() + $5::interval,
		       happened = happened OR $6, looks = 0
		WHERE id = $1::uuid AND attempts = $2 AND state IN ('sending', 'unknown')`,
		c.ID, c.Attempts, reason, min(first, certain), certain, happened)
}

// lookAgain stores the evidence of a look that settles nothing yet.
func (s *store) lookAgain(c *Command, wait time.Duration, found *evidence) step {
	return s.update("look again at", `
		UPDATE commands SET evidence = coalesce($3::jsonb, evidence), due_at = now() + $4::interval
		WHERE id = $1::uuid AND attempts = $2 AND state = 'unknown'`, c.ID, c.Attempts, found.orNull(), wait)
}

// ask leaves a command to a person.
func (s *store) ask(c *Command, reason string, found *evidence) step {
	return s.update("ask about", `
		UPDATE commands SET state = 'unknown', error = $3, evidence = coalesce($4::jsonb, evidence), due_at = NULL, confirms = 0
		WHERE id = $1::uuid AND attempts = $2 AND state IN ('sending', 'unknown', 'done')`, c.ID, c.Attempts, reason, found.orNull())
}

// confirmed stores that a confirming read was made, and what it found to be wrong.
func (s *store) confirmed(c *Command, left int, next time.Duration, amiss string) step {
	return s.update("confirm", `
		UPDATE commands SET confirms = $3, due_at = now() + $4::interval, error = coalesce(nullif($5, ''), error)
		WHERE id = $1::uuid AND attempts = $2 AND state = 'done'`, c.ID, c.Attempts, left, next, amiss)
}

// update is the step of one statement, whose first argument is the command's id.
func (s *store) update(what, sql string, args ...any) step {
	return func(ctx context.Context) error {
		tag, err := s.pool.Exec(ctx, sql, args...)
		if err != nil {
			return fmt.Errorf("%s command %s: %w", what, args[0], err)
		}
		if tag.RowsAffected() == 0 {
			return errSuperseded
		}
		return nil
	}
}

// reap finds commands whose lease has run out because their worker is gone. Their request may or may not have been carried out:
// what may be repeated is sent again, and creates are looked into.
func (s *store) reap(ctx context.Context, certain time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `
		UPDATE commands SET
			state = CASE WHEN operation = ANY ($1) AND leadgrid_id IS NULL THEN 'unknown' ELSE 'pending' END,
			error = 'the worker that was sending it ended', due_at = now(), certain_at = now() + $2::interval, looks = 0
		WHERE state = 'sending' AND due_at <= now()`, creates, certain)
	if err != nil {
		return 0, fmt.Errorf("find commands whose sender is gone: %w", err)
	}
	return tag.RowsAffected(), nil
}

// refuseDependents ends the pending commands that depend on a refused one.
func (s *store) refuseDependents(ctx context.Context) ([]*Command, error) {
	var all []*Command
	for {
		var refused []*Command
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			refused, err = collect(tx.Query(ctx, `
				UPDATE commands c SET state = 'refused', finished_at = clock_timestamp(), due_at = NULL,
				       error = 'command ' || maker.id || ', on which it depends, was refused'
				FROM commands maker
				WHERE c.state = 'pending' AND c.depends_on <> '{}' AND maker.id = ANY (c.depends_on) AND maker.state = 'refused'
				RETURNING `+columns))
			for _, c := range refused {
				if err == nil {
					err = s.leaveQueue(ctx, tx, c.Number)
				}
			}
			return err
		})
		if err != nil {
			return all, fmt.Errorf("refuse what depends on refused commands: %w", err)
		}
		if len(refused) == 0 {
			return all, nil
		}
		all = append(all, refused...) // their own dependents come next
	}
}

// shortestWait keeps the runner from asking incessantly for what is due but already being worked on.
const shortestWait = 50 * time.Millisecond

// nextDue returns in how long the next waiting command is due, 0 if none waits.
func (s *store) nextDue(ctx context.Context) (time.Duration, error) {
	var seconds *float64
	err := s.pool.QueryRow(ctx, `
		SELECT extract(epoch FROM least(
			(SELECT min(due_at) FROM commands WHERE state IN ('sending', 'unknown') OR confirms > 0),
			(SELECT min(due_at) FROM commands WHERE state = 'pending' AND due_at > now())) - clock_timestamp())::float8`).Scan(&seconds)
	if err != nil {
		return 0, fmt.Errorf("look for what is due next: %w", err)
	}
	if seconds == nil {
		return 0, nil
	}
	return max(time.Duration(*seconds*float64(time.Second)), shortestWait), nil
}

// cv loads the CV of an unfinished command.
func (s *store) cv(ctx context.Context, c *Command) (data []byte, err error) {
	if err := s.pool.QueryRow(ctx, `SELECT cv FROM command_cvs WHERE number = $1`, c.Number).Scan(&data); err != nil {
		return nil, fmt.Errorf("load the CV of command %s: %w", c.ID, err)
	}
	return data, nil
}
