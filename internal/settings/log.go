package settings

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"github.com/leadgrid-sync/leadgrid-sync/internal/redact"
)

// Log says how much to log, and how.
type Log struct {
	Level  slog.Level `envconfig:"LOG_LEVEL" default:"info" desc:"debug, info, warn or error"`
	Format string     `envconfig:"LOG_FORMAT" default:"auto" desc:"json, text, or auto: text on a terminal, otherwise json"`
}

// Problems implements [Checker].
func (l Log) Problems() []string {
	switch l.Format {
	case "auto", "json", "text":
		return nil
	}
	return []string{fmt.Sprintf("LOG_FORMAT: %q is none of json, text, auto", l.Format)}
}

// Logger returns a logger that writes to w as the settings say, and redacts errors (see package redact).
func (l Log) Logger(w io.Writer) *slog.Logger {
	terminal := isTerminal(w)
	if l.Format == "json" || l.Format != "text" && !terminal {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l.Level, ReplaceAttr: redact.Attr}))
	}
	noColor := !terminal || os.Getenv("NO_COLOR") != ""
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level: l.Level, TimeFormat: time.TimeOnly, NoColor: noColor, ReplaceAttr: redact.Attr,
	}))
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
