package writeback

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Grant lets a role write commands and see what becomes of them. deletes says whether it may also delete contacts, which cannot
// be undone; calling Grant again without it revokes that.
func Grant(ctx context.Context, tx pgx.Tx, schema, role string, deletes bool) error {
	quoted, grantee := pgx.Identifier{schema}.Sanitize(), pgx.Identifier{role}.Sanitize()
	rows, err := tx.Query(ctx, `
		SELECT p.oid::regprocedure::text, p.proname FROM pg_proc p
		WHERE p.pronamespace = quote_ident($1)::regnamespace AND p.proname = ANY ($2) ORDER BY 1`, schema, Operations)
	if err != nil {
		return fmt.Errorf("list functions: %w", err)
	}
	var statements []string
	var function string
	var name Operation
	_, err = pgx.ForEachRow(rows, []any{&function, &name}, func() error {
		if name == DeleteContact && !deletes {
			statements = append(statements, `REVOKE EXECUTE ON FUNCTION `+function+` FROM `+grantee)
			return nil
		}
		statements = append(statements, `GRANT EXECUTE ON FUNCTION `+function+` TO `+grantee)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list functions: %w", err)
	}
	statements = append(statements, `GRANT USAGE ON SCHEMA `+quoted+` TO `+grantee,
		`GRANT SELECT ON `+quoted+`.commands, `+quoted+`.commands_attention TO `+grantee)
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
