// Package redact keeps people and secrets out of logged errors, and out of those that River stores with its jobs (promise 14).
//
// Our own errors hold ids, statuses and what was being done. Other people's may quote what they failed on: Postgres a row or
// a value, encoders and parsers a text. This package rewords those.
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

// Text returns the text of an error without anything it quotes.
func Text(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	for quoting, said := range quotes(err) {
		text = strings.ReplaceAll(text, quoting, said)
	}
	// pgx has no type for this error; what follows is the value.
	if before, _, found := strings.Cut(text, "unable to encode "); found {
		text = before + "unable to encode a value"
	}
	return text
}

// Error returns an error whose text is [Text], and which is otherwise err.
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

// quotes finds the parts of an error's text that quote something, each with its replacement.
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

// without rewords an error that quotes something. It returns "" for any other.
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

// postgres leaves out message and detail, which may hold data, and keeps the names.
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

// plain reports whether an error's message is about the server, a privilege or a name in our SQL, and so never about data.
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
