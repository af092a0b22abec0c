package settings_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

type program struct {
	settings.Database
	settings.API
	Admin    settings.Admin // a group need not be embedded
	Interval time.Duration  `envconfig:"SWEEP_INTERVAL" default:"6h" desc:"how often"`
	Batch    int            `envconfig:"SWEEP_BATCH" default:"100" desc:"how many at once"`
	Share    float64        `envconfig:"SWEEP_SHARE" desc:"which part"`
	Paused   bool           `envconfig:"WRITEBACK_PAUSED" desc:"send nothing"`
	Kinds    []string       `envconfig:"SWEEP_KINDS" desc:"which ones"`
	Regions  []string       `envconfig:"SWEEP_REGIONS" desc:"where"`
	Level    slog.Level     `envconfig:"SWEEP_LOG" desc:"debug, info, warn or error"`
	Untagged string
}

func (p *program) Problems() []string {
	if p.Batch < 0 {
		return []string{"SWEEP_BATCH must not be negative"}
	}
	return nil
}

const goodURL = "postgres://sync:hunter2@db.internal/crm"

// environment leaves nothing of the machine's own settings.
func environment(t *testing.T, env map[string]string) {
	t.Helper()
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		for _, prefix := range []string{"DATABASE_", "LEADGRID_", "SWEEP_", "RETENTION_", "WRITEBACK_", "ADMIN_", "LOG_", "PPROF"} {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "") // so that it comes back
				os.Unsetenv(name)
			}
		}
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
}

func load(t *testing.T, env map[string]string) (*program, []string) {
	t.Helper()
	environment(t, env)
	loaded := &program{Admin: settings.Admin{Addr: ":9091"}, Regions: []string{"be", "nl"}}
	err := settings.Load(loaded)
	if err == nil {
		return loaded, nil
	}
	problems, ok := errors.AsType[*settings.Error](err)
	if !ok {
		t.Fatalf("Load = %v, want a *settings.Error", err)
	}
	return loaded, problems.Problems
}

func with(more map[string]string) map[string]string {
	env := map[string]string{"DATABASE_URL": goodURL, "LEADGRID_API_KEY": "lg_live_test"}
	maps.Copy(env, more)
	return env
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "setting")
	write(t, path, content)
	return path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	got, problems := load(t, with(map[string]string{
		"LEADGRID_API_KEY": "lg_live_test\n",
		"LEADGRID_SCHEMA":  " crm ",
		"SWEEP_BATCH":      "",
		"SWEEP_SHARE":      "0.25",
		"WRITEBACK_PAUSED": "true",
		"SWEEP_KINDS":      " dossiers, ,contacts ,",
		"SWEEP_LOG":        "warn",
		"ADMIN_PASSWORD":   " spaces are mine ",
	}))
	if problems != nil {
		t.Fatal(problems)
	}
	want := program{
		Interval: 6 * time.Hour, Batch: 100, Share: 0.25, Paused: true, Kinds: []string{"dossiers", "contacts"}, Level: slog.LevelWarn,
		Regions: []string{"be", "nl"},
	}
	want.Database.Schema, want.Database.QueueSchema, want.MaxConns = "crm", "leadgrid_queue", 10
	want.BaseURL = "https://leadgrid.io/api/v1"
	want.Admin.Addr, want.Admin.User = ":9091", "admin"
	secrets := map[string][2]string{
		"DATABASE_URL":     {got.URL.Value(), goodURL},
		"LEADGRID_API_KEY": {got.Key.Value(), "lg_live_test"},
		"ADMIN_PASSWORD":   {got.Admin.Password.Value(), " spaces are mine "},
	}
	for name, pair := range secrets {
		if pair[0] != pair[1] {
			t.Errorf("%s = %q, want %q", name, pair[0], pair[1])
		}
	}
	got.URL, got.Key, got.Admin.Password = settings.Secret{}, settings.Secret{}, settings.Secret{}
	if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", *got)); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

func TestLoadFromFiles(t *testing.T) {
	got, problems := load(t, map[string]string{
		"DATABASE_URL_FILE":     file(t, goodURL+"\n"),
		"LEADGRID_API_KEY_FILE": file(t, "lg_live_test\r\n"),
		"SWEEP_KINDS_FILE":      file(t, "dossiers,\n contacts\n"),
		"SWEEP_INTERVAL_FILE":   file(t, "90m\n"),
	})
	if problems != nil {
		t.Fatal(problems)
	}
	if got.URL.Value() != goodURL || got.Key.Value() != "lg_live_test" {
		t.Errorf("secrets are %q and %q", got.URL.Value(), got.Key.Value())
	}
	if got.Interval != 90*time.Minute || !cmp.Equal(got.Kinds, []string{"dossiers", "contacts"}) {
		t.Errorf("Interval = %v, Kinds = %v", got.Interval, got.Kinds)
	}
}

func TestLoadReportsAllProblemsAtOnce(t *testing.T) {
	empty := file(t, "\n")
	_, problems := load(t, map[string]string{
		"DATABASE_URL":          " ",
		"LEADGRID_API_KEY_FILE": "/no/such/file",
		"LEADGRID_SCHEMA":       "x",
		"LEADGRID_SCHEMA_FILE":  "/y",
		"SWEEP_INTERVAL":        "6",
		"SWEEP_BATCH":           "many",
		"SWEEP_SHARE":           "half",
		"WRITEBACK_PAUSED":      "maybe",
		"SWEEP_LOG":             "loud",
		"SWEEP_KINDS_FILE":      empty,
		"ADMIN_ADDR":            "9091",
		"LEADGRID_API_KYE":      "x",
		"SWEEP_XYZZY_PLUGH":     "x",
		"LEADGRID_BASE_URL":     "leadgrid.io",
	})
	want := []string{
		`DATABASE_URL is missing: set it, or set DATABASE_URL_FILE to a file that holds it (the Postgres to mirror into: postgres://user:password@host:5432/database)`,
		`LEADGRID_SCHEMA and LEADGRID_SCHEMA_FILE are both set: keep one of them`,
		`LEADGRID_API_KEY_FILE: open /no/such/file: no such file or directory`,
		`SWEEP_INTERVAL: "6" is not a duration: write a number and a unit, such as 30s, 5m or 24h`,
		`SWEEP_BATCH: "many" is not a whole number, or too large`,
		`SWEEP_SHARE: "half" is not a number`,
		`WRITEBACK_PAUSED: "maybe" is neither true nor false`,
		`SWEEP_KINDS_FILE: ` + empty + ` is empty`,
		`SWEEP_LOG: "loud" is not understood, expected debug, info, warn or error`,
		`LEADGRID_BASE_URL is not the address of an API: write it like https://leadgrid.io/api/v1`,
		`ADMIN_ADDR: "9091" is not an address to listen on: write host:port or :port`,
		`LEADGRID_API_KYE is not a setting: did you mean LEADGRID_API_KEY?`,
		`SWEEP_XYZZY_PLUGH is not a setting: remove it`,
	}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestLoadChecksTheRulesOfGroups(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		want []string
	}{
		"a database URL": {
			map[string]string{"DATABASE_URL": "postgres://sync:hunter2@db:port/crm"},
			[]string{"DATABASE_URL is not the address of a Postgres database: write postgres://user:password@host:5432/database"},
		},
		"a schema's name": {
			map[string]string{"LEADGRID_SCHEMA": "Lead Grid"},
			[]string{`LEADGRID_SCHEMA: "Lead Grid" is no name for a schema: use lower-case letters, digits and _, 46 at most, and not pg_ in front`},
		},
		"a schema of Postgres' own": {
			map[string]string{"LEADGRID_QUEUE_SCHEMA": "pg_queue"},
			[]string{`LEADGRID_QUEUE_SCHEMA: "pg_queue" is no name for a schema: use lower-case letters, digits and _, 46 at most, and not pg_ in front`},
		},
		"two keys in one": {
			map[string]string{"LEADGRID_API_KEY": "lg_live_a\nlg_live_b"},
			[]string{"LEADGRID_API_KEY holds a blank, a line break or something else that no key holds: give one key and nothing else"},
		},
		"one schema for both": {
			map[string]string{"LEADGRID_SCHEMA": "both", "LEADGRID_QUEUE_SCHEMA": "both"},
			[]string{"LEADGRID_SCHEMA and LEADGRID_QUEUE_SCHEMA are the same: River's tables need a schema of their own"},
		},
		"too few connections": {map[string]string{"DATABASE_MAX_CONNS": "1"}, []string{"DATABASE_MAX_CONNS must be 2 or more"}},
		"an API with a query": {
			map[string]string{"LEADGRID_BASE_URL": "https://leadgrid.io/api/v1?x=1"},
			[]string{"LEADGRID_BASE_URL is not the address of an API: write it like https://leadgrid.io/api/v1"},
		},
		"the program's own rule": {map[string]string{"SWEEP_BATCH": "-1"}, []string{"SWEEP_BATCH must not be negative"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, problems := load(t, with(test.env)); !cmp.Equal(problems, test.want) {
				t.Errorf("problems = %q, want %q", problems, test.want)
			}
		})
	}
}

func TestMarkerIsAWord(t *testing.T) {
	for marker, good := range map[string]bool{"": true, "ref": true, "our-ref_2.0": true, "two words": false, "[ref": false, strings.Repeat("x", 21): false} {
		problems := settings.Writeback{Marker: marker}.Problems()
		if good != (len(problems) == 0) {
			t.Errorf("%q: %q", marker, problems)
		}
	}
}

func TestLoadTracing(t *testing.T) {
	for want, env := range map[string]map[string]string{
		"": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
		"OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not a URL: write http://host:4318": {
			"OTEL_EXPORTER_OTLP_ENDPOINT": "otel:4318"},
		"OTEL_TRACES_EXPORTER must be otlp or none": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318", "OTEL_TRACES_EXPORTER": "zipkin"},
		"OTEL_EXPORTER_OTLP_PROTOCOL must be http/json: traces are sent over HTTP, mostly to port 4318": {
			"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
	} {
		environment(t, env)
		got := ""
		if problems, ok := errors.AsType[*settings.Error](settings.Load(new(struct{ settings.Tracing }))); ok {
			got = strings.Join(problems.Problems, "\n")
		}
		if got != want {
			t.Errorf("%v: %q, want %q", env, got, want)
		}
	}
}

func TestLoadWebhookAndLog(t *testing.T) {
	type receiver struct {
		settings.Webhook
		settings.Log
		settings.Listen
	}
	environment(t, map[string]string{
		"LEADGRID_WEBHOOK_SECRET": " , ", "LEADGRID_WEBHOOK_TOLERANCE": "-1s", "LOG_FORMAT": "xml", "LISTEN_ADDR": ":http",
	})
	problems, _ := errors.AsType[*settings.Error](settings.Load(new(receiver)))
	want := []string{
		"LEADGRID_WEBHOOK_SECRET holds no secret, only commas",
		"LEADGRID_WEBHOOK_TOLERANCE must be more than zero",
		`LOG_FORMAT: "xml" is none of json, text, auto`,
		`LISTEN_ADDR: ":http" is not an address to listen on: write host:port or :port`,
	}
	if problems == nil || !cmp.Equal(problems.Problems, want) {
		t.Fatalf("problems = %v, want %q", problems, want)
	}
	environment(t, map[string]string{
		"LEADGRID_WEBHOOK_SECRET": "whsec_old=, new secret ", "LEADGRID_WEBHOOK_TOLERANCE": "", "LOG_FORMAT": "", "LISTEN_ADDR": "",
	})
	var loaded receiver
	if err := settings.Load(&loaded); err != nil {
		t.Fatal(err)
	}
	if loaded.Tolerance != 5*time.Minute {
		t.Errorf("Tolerance = %v, want 5m", loaded.Tolerance)
	}
	if got := loaded.Secret.Values(); !cmp.Equal(got, []string{"whsec_old=", "new secret"}) {
		t.Errorf("secrets = %q", got)
	}
}

// Programs share an environment, and Kubernetes adds to it.
func TestVariablesThatAreNoMistakes(t *testing.T) {
	_, problems := load(t, with(map[string]string{
		"LEADGRID_WEBHOOK_SECRET":                      "the receiver's",
		"LEADGRID_HASH_KEY_FILE":                       "/the/receiver's",
		"LEADGRID_SYNC_RECEIVER_SERVICE_HOST":          "10.0.0.1",
		"LEADGRID_SYNC_RECEIVER_SERVICE_PORT":          "8080",
		"LEADGRID_SYNC_RECEIVER_SERVICE_PORT_WEBHOOKS": "8080",
		"LEADGRID_SYNC_RECEIVER_PORT":                  "tcp://10.0.0.1:8080",
		"LEADGRID_SYNC_RECEIVER_PORT_8080_TCP":         "tcp://10.0.0.1:8080",
		"LEADGRID_SYNC_RECEIVER_PORT_8080_TCP_ADDR":    "10.0.0.1",
		"SWEEPING": "is not ours",
	}))
	if problems != nil {
		t.Errorf("problems = %q, want none", problems)
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	const text = "hunter2"
	secret := settings.NewSecret(text)
	type outer struct {
		Public settings.Secret
		hidden settings.Secret
	}
	value := outer{Public: secret, hidden: secret}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(handler).Info("loaded", "secret", secret, "pointer", &secret, "struct", value)
	}
	printed := []string{string(encoded), log.String(), secret.String(), fmt.Errorf("with %w", errors.New(secret.String())).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		printed = append(printed, fmt.Sprintf(verb, secret), fmt.Sprintf(verb, &secret), fmt.Sprintf(verb, value), fmt.Sprintf(verb, &value))
	}
	for _, p := range printed {
		if strings.Contains(p, text) || strings.Contains(p, fmt.Sprintf("%x", text)) {
			t.Errorf("printed: %s", p)
		}
	}
	if got := fmt.Sprintf("%v %+v", secret, value.Public); got != "[secret] [secret]" {
		t.Errorf("printed as %q, want [secret] [secret]", got)
	}
	if secret.Value() != text || !secret.IsSet() || (settings.Secret{}).IsSet() {
		t.Error("the value itself is lost")
	}
	_, problems := load(t, map[string]string{"DATABASE_URL": "hunter2://hunter2", "LEADGRID_API_KEY": text, "LEADGRID_API_KEY_FILE": "/x"})
	if len(problems) != 2 || strings.Contains(strings.Join(problems, " "), text) {
		t.Errorf("problems = %q, want two without the secrets", problems)
	}
}

func TestSecretFollowsItsFile(t *testing.T) {
	// As Kubernetes mounts a secret: the name is a link through a folder that is exchanged as a whole.
	dir := t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "key"), "key-of-"+version+"\n")
	}
	link := func(target, name string) {
		t.Helper()
		if err := errors.Join(os.Symlink(target, filepath.Join(dir, "new")), os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "..data")
	link("..data/key", "key")
	environment(t, map[string]string{"LEADGRID_API_KEY_FILE": filepath.Join(dir, "key")})
	synctest.Test(t, func(t *testing.T) {
		var api settings.API
		if err := settings.Load(&api); err != nil {
			t.Fatal(err)
		}
		want := func(value string) {
			t.Helper()
			if got := api.Key.Value(); got != value {
				t.Errorf("key = %q, want %q", got, value)
			}
		}
		want("key-of-v1")
		link("v2", "..data")
		want("key-of-v1") // looked at a moment ago
		time.Sleep(time.Second)
		want("key-of-v2")
		write(t, filepath.Join(dir, "v2", "key"), "")
		time.Sleep(time.Second)
		want("key-of-v2") // half-written
		if err := os.Remove(filepath.Join(dir, "v2", "key")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("key-of-v2")
		write(t, filepath.Join(dir, "v2", "key"), "key-of-v3")
		time.Sleep(time.Second)
		want("key-of-v3")
	})
}

func TestListDescribesEverySetting(t *testing.T) {
	listed := settings.List(&program{Admin: settings.Admin{Addr: ":9091"}})
	byName := map[string]settings.Setting{}
	for _, s := range listed {
		if s.Description == "" {
			t.Errorf("%s has no description", s.Name)
		}
		byName[s.Name] = s
	}
	want := settings.Setting{Name: "LEADGRID_API_KEY", Required: true, Secret: true, Description: "the API key of the organization to mirror"}
	if got := byName[want.Name]; got != want {
		t.Errorf("listed as %+v, want %+v", got, want)
	}
	if got := byName["ADMIN_ADDR"].Default; got != ":9091" {
		t.Errorf("default of ADMIN_ADDR is %q, want the program's :9091", got)
	}
	if len(listed) != 17 {
		t.Errorf("%d settings listed, want 17", len(listed))
	}
}
