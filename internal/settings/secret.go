package settings

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Secret is a setting that nobody may see: however it is printed, logged or encoded, the output is [secret]. One that comes
// from a file is read again when the file changes, so that keys rotate without a restart. The zero Secret is not set.
type Secret struct {
	value func() string // a function, because fmt prints unexported fields too
}

// reread is the least time between two reads of a secret's file.
const reread = time.Second

// fileMax bounds the size of a setting's file.
const fileMax = 1 << 20

// NewSecret makes a secret of a text that does not come from the environment, as in tests.
func NewSecret(text string) Secret {
	return Secret{func() string { return text }}
}

func newSecretFile(name, path, text string) Secret {
	return Secret{(&secretFile{name: name, path: path, text: text, read: time.Now()}).current}
}

// Value returns the current secret, "" if it is not set. Call it at each use: it is cheap, and follows a changed file within
// a second. While the file is unreadable or empty, the last value stays in use.
func (s Secret) Value() string {
	if s.value == nil {
		return ""
	}
	return s.value()
}

// Values are the items of a comma-separated secret, without the spaces around them.
func (s Secret) Values() []string { return splitList(s.Value()) }

// IsSet reports whether there is a secret.
func (s Secret) IsSet() bool { return s.Value() != "" }

// secretFile is a file with a secret. It is read again now and then: checking whether it changed would be no cheaper.
type secretFile struct {
	name, path string

	mu      sync.Mutex
	text    string
	read    time.Time
	failing bool
}

func (f *secretFile) current() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.read) < reread {
		return f.text
	}
	f.read = time.Now()
	text, err := readFile(f.path)
	if err != nil {
		if !f.failing {
			slog.Default().Warn("cannot read a setting again, its last value stays in use", "setting", f.name+fileSuffix, "error", err)
		}
		f.failing = true
		return f.text
	}
	f.failing = false
	f.text = strings.TrimRight(text, "\r\n")
	return f.text
}

// readFile refuses an empty file: it is just being written, or a mistake.
func readFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, fileMax+1))
	switch {
	case err != nil:
		return "", err
	case len(content) > fileMax:
		return "", fmt.Errorf("%s is too large for a setting", path)
	case strings.TrimSpace(string(content)) == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return string(content), nil
}

const hidden = "[secret]"

// String returns [secret].
func (s Secret) String() string { return hidden }

// Format prints [secret] for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue logs [secret].
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText encodes [secret], in JSON, YAML and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
