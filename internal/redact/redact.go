// Package redact keeps people and secrets out of what is written down about errors: logs, and the errors that River
// stores with its jobs (promise 14).
//
// Errors of our own hold ids, statuses and what was being done. Errors of others may quote what they choked on: Postgres
// the row or the value, encoders and parsers the text. Those are said again without it.
package redact

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Text is the text of an error without what it quotes.
func Text(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	for quoting, said := range quotes(err) {
		text = strings.ReplaceAll(text, quoting, said)
	}
	// pgx says this with no type of its own; what follows is the value.
	if before, _, found := strings.Cut(text, "unable to encode "); found {
		text = before + "unable to encode a value"
	}
	return text
}

// Error returns an error that says [Text] and is otherwise the same.
func Error(err error) error {
	if err == nil {
		return nil
	}
	if text := Text(err); text != err.Error() {
		return &redacted{text, err}
	}
	return err
}

type redacted struct {
	text string
	err  error
}

func (e *redacted) Error() string { return e.text }
func (e *redacted) Unwrap() error { return e.err }

// Attr is for [slog.HandlerOptions]: an error is logged by its [Text].
func Attr(_ []string, attr slog.Attr) slog.Attr {
	if err, ok := attr.Value.Any().(error); ok {
		return slog.String(attr.Key, Text(err))
	}
	return attr
}

// quotes gives the texts inside an error's that quote something, each with what to say instead.
func quotes(err error) map[string]string {
	found := make(map[string]string)
	collect(err, found)
	return found
}

func collect(err error, found map[string]string) {
	if said := without(err); said != "" {
		found[err.Error()] = said
		return
	}
	switch wrapper := err.(type) { //nolint:errorlint // walks the tree itself
	case interface{ Unwrap() error }:
		if inner := wrapper.Unwrap(); inner != nil {
			collect(inner, found)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			collect(inner, found)
		}
	}
}

// without says an error that quotes something again, without it; it is empty for an error that does not.
func without(err error) string {
	switch e := err.(type) { //nolint:errorlint // of this very error, not of what it wraps
	case *pgconn.PgError:
		return postgres(e)
	case *json.UnmarshalTypeError:
		return fmt.Sprintf("JSON of another type than %v at byte %d", e.Type, e.Offset)
	case *json.SyntaxError:
		return fmt.Sprintf("broken JSON at byte %d", e.Offset)
	case *strconv.NumError:
		return fmt.Sprintf("strconv.%s: %v", e.Func, e.Err)
	case *time.ParseError:
		return "not a time"
	case *url.Error:
		return fmt.Sprintf("%s: %s", e.Op, Text(e.Err))
	}
	return ""
}

// postgres leaves out message and detail, and names what is not data.
func postgres(e *pgconn.PgError) string {
	said := []string{"Postgres: SQLSTATE " + e.Code}
	for _, part := range []struct{ what, name string }{
		{"table", e.TableName}, {"column", e.ColumnName}, {"constraint", e.ConstraintName}, {"routine", e.Routine},
	} {
		if part.name != "" {
			said = append(said, part.what+" "+part.name)
		}
	}
	text := strings.Join(said, ", ")
	if plain(e) {
		text += ": " + e.Message
	}
	return text
}

// plain reports errors whose message is about the server, a privilege or a name in a statement of ours, never about data.
func plain(e *pgconn.PgError) bool {
	if len(e.Code) != 5 {
		return false
	}
	switch e.Code[:2] {
	case "08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58":
		return true
	}
	return false
}
