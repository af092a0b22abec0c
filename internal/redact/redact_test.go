package redact_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/leadgrid-sync/leadgrid-sync/internal/redact"
)

const canary = "Canary"

func quoting() map[string]error {
	var number int
	_, numberErr := strconv.Atoi(canary)
	_, timeErr := time.Parse(time.RFC3339, canary)
	return map[string]error{
		"Postgres: SQLSTATE 23514, table dossiers, constraint checked": &pgconn.PgError{
			Code: "23514", Message: canary, Detail: canary, TableName: "dossiers", ConstraintName: "checked"},
		"Postgres: SQLSTATE 57014: canceling statement": &pgconn.PgError{Code: "57014", Message: "canceling statement"},
		"JSON of another type than int at byte":         json.Unmarshal([]byte(`"`+canary+`"`), &number),
		"broken JSON at byte":                           json.Unmarshal([]byte("{"+canary), &number),
		"strconv.Atoi: invalid syntax":                  numberErr,
		"not a time":                                    timeErr,
		"failed to encode args[0]: unable to encode a value": errors.New(
			`failed to encode args[0]: unable to encode "` + canary + `" into text format for int8`),
	}
}

func TestPromise14_ErrorsQuoteNothing(t *testing.T) {
	for want, err := range quoting() {
		wrapped := fmt.Errorf("write rows of dossier 7: %w", errors.Join(errors.New("first"), err, context.Canceled))
		text := redact.Text(wrapped)
		if strings.Contains(text, canary) || !strings.Contains(text, want) || !strings.Contains(text, "write rows of dossier 7: first") {
			t.Errorf("%T: %q, want it to hold %q", err, text, want)
		}
		again := redact.Error(wrapped)
		if again.Error() != text || !errors.Is(again, context.Canceled) {
			t.Errorf("%T: Error gives %q", err, again)
		}
	}
	if plain := errors.New("load flush 3"); redact.Error(plain) != plain || redact.Error(nil) != nil || redact.Text(nil) != "" {
		t.Error("what quotes nothing is not left as it is")
	}
}

func TestAttr(t *testing.T) {
	var logs bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{ReplaceAttr: redact.Attr}))
	log.Info("done", slog.Any("error", &pgconn.PgError{Code: "22P02", Message: canary}), slog.Int("n", 3))
	if got := logs.String(); strings.Contains(got, canary) || !strings.Contains(got, "SQLSTATE 22P02") || !strings.Contains(got, "n=3") {
		t.Errorf("logged %s", got)
	}
}
