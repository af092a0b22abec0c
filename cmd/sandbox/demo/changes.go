package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// move is a dossier that goes from one stage of its flow to the next.
type move struct {
	dossier, name    string
	from, to         string
	fromName, toName string
}

// change moves a dossier in LeadGrid and waits until the mirror shows it.
func (d *demo) change(ctx context.Context) error {
	m, began, err := d.move(ctx)
	if err != nil {
		return err
	}
	edited := began.Format(time.TimeOnly)
	for {
		var stage *string
		err := d.pool.QueryRow(ctx, `SELECT current_stage_id FROM dossiers WHERE id = $1`, m.dossier).Scan(&stage)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("look for the change: %w", err)
		}
		if err == nil && stage != nil && *stage == m.to {
			break
		}
		if time.Since(began) > 30*time.Second {
			if d.leadgrid.Snapshot()["dossiers"][m.dossier]["current_stage_id"] != m.to {
				return nil // somebody at work has changed it again, or removed it
			}
			return fmt.Errorf("the change of dossier %s is not in Postgres after %v", m.dossier, since(began))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the change of dossier %s is not in Postgres after %v, when the demo ends", m.dossier, since(began))
		case <-time.After(2 * time.Millisecond):
		}
	}
	fmt.Fprintf(d.out, "%s  %s: %s → %s, in Postgres %v later\n", edited, m.name, m.fromName, m.toName, since(began))
	return nil
}

// move moves a dossier that still exists: LeadGrid sends no webhook when one is removed, so the mirror may still show it.
func (d *demo) move(ctx context.Context) (m move, began time.Time, err error) {
	for skip := 0; ; skip++ {
		if m, err = d.choose(ctx, skip); err != nil {
			return m, began, err
		}
		began = time.Now()
		err = d.leadgrid.MoveDossier(m.dossier, m.to)
		if err == nil {
			return m, began, nil
		}
		if !errors.Is(err, leadgridtest.ErrMissing) {
			return m, began, fmt.Errorf("change the stand-in: %w", err)
		}
	}
}

// choose picks an active dossier that was not changed for long, after so many others, and the stage that follows its own.
func (d *demo) choose(ctx context.Context, skip int) (m move, err error) {
	err = d.pool.QueryRow(ctx, `
		SELECT d.id, coalesce(d.name, d.id), a.id, b.id, a.name, b.name
		FROM dossiers d
		JOIN stages a ON a.id = d.current_stage_id
		JOIN stages b ON b.flow_id = a.flow_id AND b.position = a.position + 1 AND b._deleted_at IS NULL
		WHERE d.status = 'active' AND d._deleted_at IS NULL
		ORDER BY d._changed_at, d.id LIMIT 1 OFFSET $1`, skip).Scan(&m.dossier, &m.name, &m.from, &m.to, &m.fromName, &m.toName)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, errors.New("no dossier is left that could be moved to another stage")
	}
	return m, err
}

const pipeline = `select f.name as flow, s.name as stage, count(*) as dossiers, sum(d.deal_size) as worth
from leadgrid.dossiers d
join leadgrid.stages s on s.id = d.current_stage_id
join leadgrid.flows f on f.id = d.flow_id
where f.type = 'sales' and d.status = 'active'
group by f.name, s.name, s.position
order by f.name, s.position`

// lookAround prints a query with its answer, and where else to look.
func (d *demo) lookAround(ctx context.Context) error {
	query := strings.ReplaceAll(pipeline, "leadgrid.", pgx.Identifier{d.Schema}.Sanitize()+".")
	if d.Schema == "leadgrid" {
		query = pipeline
	}
	database := d.database
	if d.DatabaseURL.IsSet() {
		database = "$DATABASE_URL" // it may hold a password
	}
	fmt.Fprintf(d.out, "\nLook at it\n\npsql \"%s\" -c \"\n%s\"\n\n", database, query)
	answer, err := d.answer(ctx, query)
	if err != nil {
		return err
	}
	fmt.Fprintln(d.out, answer)
	d.say("status", "http://%s/ (user admin, password %s)", d.worker.admin, adminPassword)
	d.say("jobs", "http://%s/river/ (the same)", d.worker.admin)
	d.say("metrics", "http://%s/metrics and http://%s/metrics", d.worker.admin, d.receiver.admin)
	return nil
}

// answer is what psql would print.
func (d *demo) answer(ctx context.Context, query string) (string, error) {
	rows, err := d.pool.Query(ctx, query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var header []string
	for _, field := range rows.FieldDescriptions() {
		header = append(header, field.Name)
	}
	lines := [][]string{header}
	for rows.Next() {
		line := make([]string, len(header))
		for i, value := range rows.RawValues() {
			line[i] = string(value)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		return "", err
	}
	return align(lines), nil
}

// align pads columns as psql does: numbers, which are the last two, to the right.
func align(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var text strings.Builder
	for n, line := range lines {
		cells := slices.Clone(line)
		for i, cell := range cells {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i >= 2 && n > 0 {
				cells[i] = pad + cell
			} else {
				cells[i] = cell + pad
			}
		}
		fmt.Fprintf(&text, " %s\n", strings.TrimRight(strings.Join(cells, " | "), " "))
		if n == 0 {
			var dashes []string
			for _, width := range widths {
				dashes = append(dashes, strings.Repeat("-", width+2))
			}
			fmt.Fprintln(&text, strings.Join(dashes, "+"))
		}
	}
	return text.String()
}
