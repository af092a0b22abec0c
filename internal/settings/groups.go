package settings

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// everything holds every group that any program uses. Add a new group here, or programs that share an environment will report
// its variables as mistakes.
type everything struct {
	Database
	API
	Webhook
	Mappings
	Sweep
	Writeback
	Retention
	Listen
	Admin
	Tracing
	Log
}

// Database says where the mirror is.
type Database struct {
	URL         Secret `envconfig:"DATABASE_URL" required:"true" desc:"the Postgres to mirror into: postgres://user:password@host:5432/database"`
	Schema      string `envconfig:"LEADGRID_SCHEMA" default:"leadgrid" desc:"the schema of the mirrored tables"`
	QueueSchema string `envconfig:"LEADGRID_QUEUE_SCHEMA" default:"leadgrid_queue" desc:"the schema of River's tables"`
	MaxConns    int32  `envconfig:"DATABASE_MAX_CONNS" default:"10" desc:"the most connections of one program's pool; a worker keeps up to three more, to be told of news"`
}

// schemaName matches names that Postgres takes without quotes and that leave room for River's names.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,45}$`)

// Problems implements [Checker].
func (d Database) Problems() (problems []string) {
	// The parser's own error may quote the password.
	if _, err := pgxpool.ParseConfig(d.URL.Value()); err != nil {
		problems = append(problems, "DATABASE_URL is not the address of a Postgres database: write postgres://user:password@host:5432/database")
	}
	for _, schema := range [][2]string{{"LEADGRID_SCHEMA", d.Schema}, {"LEADGRID_QUEUE_SCHEMA", d.QueueSchema}} {
		if !schemaName.MatchString(schema[1]) || strings.HasPrefix(schema[1], "pg_") {
			problems = append(problems, fmt.Sprintf("%s: %q is no name for a schema: use lower-case letters, digits and _, 46 at most, and not pg_ in front", schema[0], schema[1]))
		}
	}
	if d.Schema == d.QueueSchema {
		problems = append(problems, "LEADGRID_SCHEMA and LEADGRID_QUEUE_SCHEMA are the same: River's tables need a schema of their own")
	}
	if d.MaxConns < 2 {
		problems = append(problems, "DATABASE_MAX_CONNS must be 2 or more")
	}
	return problems
}

// API says how to reach LeadGrid.
type API struct {
	Key     Secret `envconfig:"LEADGRID_API_KEY" required:"true" desc:"the API key of the organization to mirror"`
	BaseURL string `envconfig:"LEADGRID_BASE_URL" default:"https://leadgrid.io/api/v1" desc:"where the LeadGrid API is"`
}

// Problems implements [Checker].
func (a API) Problems() (problems []string) {
	if !apiKey.MatchString(a.Key.Value()) {
		problems = append(problems, "LEADGRID_API_KEY holds a blank, a line break or something else that no key holds: give one key and nothing else")
	}
	if _, err := leadgridapi.New(a.BaseURL, "any key"); err != nil {
		problems = append(problems, "LEADGRID_BASE_URL is not the address of an API: write it like https://leadgrid.io/api/v1")
	}
	return problems
}

// apiKey matches what fits into a header behind the word Bearer.
var apiKey = regexp.MustCompile(`^[!-~]*$`)

// Webhook says how to recognize authentic webhooks.
type Webhook struct {
	Secret    Secret        `envconfig:"LEADGRID_WEBHOOK_SECRET" required:"true" desc:"the webhook's signing secret; while rotating, both, separated by a comma"`
	Tolerance time.Duration `envconfig:"LEADGRID_WEBHOOK_TOLERANCE" default:"5m" desc:"how far the time of a signature may lie from ours"`
}

// Problems implements [Checker].
func (w Webhook) Problems() (problems []string) {
	if len(w.Secret.Values()) == 0 {
		problems = append(problems, "LEADGRID_WEBHOOK_SECRET holds no secret, only commas")
	}
	if w.Tolerance <= 0 {
		problems = append(problems, "LEADGRID_WEBHOOK_TOLERANCE must be more than zero")
	}
	return problems
}

// Mappings say which field goes to which column.
type Mappings struct {
	File    string `envconfig:"LEADGRID_MAPPINGS" desc:"a YAML file with changes to which field goes to which column"`
	HashKey Secret `envconfig:"LEADGRID_HASH_KEY" desc:"the key for fields that are mirrored as a hash"`
}

// Writeback says whether commands are sent, and how the dossiers they create are marked.
type Writeback struct {
	Paused bool   `envconfig:"WRITEBACK_PAUSED" default:"false" desc:"send no command; they wait until this is off"`
	Marker string `envconfig:"WRITEBACK_MARKER" desc:"a word, such as ref: dossiers are created with [ref and the command's id] at the end of their intake_notes, by which they are found"`
}

// marker matches words that stand out in a text and contain nothing surprising.
var marker = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,20}$`)

// Problems implements [Checker].
func (w Writeback) Problems() []string {
	if !marker.MatchString(w.Marker) {
		return []string{"WRITEBACK_MARKER is not a word of at most 20 letters, digits, - . and _"}
	}
	return nil
}

// Load returns the default mapping with the file's changes applied to it.
func (m Mappings) Load() (*mappings.Mapping, error) {
	if m.File == "" {
		return mappings.Default(), nil
	}
	text, err := os.ReadFile(m.File)
	if err != nil {
		return nil, fmt.Errorf("LEADGRID_MAPPINGS: %w", err)
	}
	mapping, err := mappings.Parse(text, m.HashKey.Value())
	if err != nil {
		return nil, fmt.Errorf("LEADGRID_MAPPINGS: %s:\n%w", m.File, err)
	}
	return mapping, nil
}

// Problems implements [Checker].
func (m Mappings) Problems() []string {
	if _, err := m.Load(); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// Listen says where the receiver listens.
type Listen struct {
	Addr string `envconfig:"LISTEN_ADDR" default:":8080" desc:"where the receiver takes webhooks"`
}

// Problems implements [Checker].
func (l Listen) Problems() []string { return addressProblems("LISTEN_ADDR", l.Addr) }

// Admin says where health, metrics and the pages for operators are. The programs differ in the default address.
type Admin struct {
	Addr     string `envconfig:"ADMIN_ADDR" desc:"where health, metrics and the pages for operators are"`
	User     string `envconfig:"ADMIN_USER" default:"admin" desc:"the user for pages that show or change jobs"`
	Password Secret `envconfig:"ADMIN_PASSWORD" desc:"the password for these pages; without one they are not served"`
	PPROF    bool   `envconfig:"PPROF" default:"false" desc:"serve Go's profiles at /debug/pprof/ on ADMIN_ADDR"`
}

// Problems implements [Checker].
func (a Admin) Problems() []string {
	problems := addressProblems("ADMIN_ADDR", a.Addr)
	if strings.Contains(a.User, ":") {
		problems = append(problems, "ADMIN_USER must not contain a colon: browsers end the name there")
	}
	return problems
}

func addressProblems(name, address string) []string {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return []string{fmt.Sprintf("%s: %q is not an address to listen on: write host:port or :port", name, address)}
	}
	return nil
}

// Tracing says where OpenTelemetry traces go. OpenTelemetry's SDK reads the other OTEL_* variables, such as the sampler.
type Tracing struct {
	Disabled       bool   `envconfig:"OTEL_SDK_DISABLED" default:"false" desc:"send no traces, whatever else is set"`
	Exporter       string `envconfig:"OTEL_TRACES_EXPORTER" desc:"otlp, or none to send no traces"`
	Protocol       string `envconfig:"OTEL_EXPORTER_OTLP_PROTOCOL" default:"http/json" desc:"how: gRPC is not spoken"`
	Endpoint       string `envconfig:"OTEL_EXPORTER_OTLP_ENDPOINT" desc:"the OpenTelemetry collector that traces go to, such as http://otel:4318; there are none without it"`
	TracesEndpoint string `envconfig:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" desc:"the same for traces alone, with its path, such as http://otel:4318/v1/traces"`
	Headers        Secret `envconfig:"OTEL_EXPORTER_OTLP_HEADERS" desc:"headers for the collector: name=value, with a comma between two"`
}

// URL is where traces are sent, empty if they are not.
func (t Tracing) URL() string {
	switch {
	case t.Disabled || t.Exporter == "none":
		return ""
	case t.TracesEndpoint != "":
		return t.TracesEndpoint
	case t.Endpoint != "":
		return strings.TrimRight(t.Endpoint, "/") + "/v1/traces"
	case t.Exporter == "otlp":
		return "http://localhost:4318/v1/traces"
	}
	return ""
}

// Problems implements [Checker].
func (t Tracing) Problems() (problems []string) {
	if t.URL() == "" {
		return nil
	}
	if u, err := url.Parse(t.URL()); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		problems = append(problems, "OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not a URL: write http://host:4318")
	}
	if t.Exporter != "" && t.Exporter != "otlp" {
		problems = append(problems, "OTEL_TRACES_EXPORTER must be otlp or none")
	}
	if t.Protocol != "http/json" && t.Protocol != "http/protobuf" { // a collector takes both in the same place
		problems = append(problems, "OTEL_EXPORTER_OTLP_PROTOCOL must be http/json: traces are sent over HTTP, mostly to port 4318")
	}
	return problems
}

// Sweep says how often and how thoroughly scheduled sweeps read LeadGrid again.
type Sweep struct {
	Interval Every         `envconfig:"SWEEP_INTERVAL" default:"1h" desc:"time between scheduled sweeps, or off"`
	Rotation time.Duration `envconfig:"SWEEP_ROTATION" default:"168h" desc:"the time in which scheduled sweeps read the links and notes of every dossier"`
	Hot      time.Duration `envconfig:"SWEEP_HOT" default:"48h" desc:"for how long after a change every scheduled sweep reads a dossier's links and notes"`
	Lag      time.Duration `envconfig:"LEADGRID_LAG" default:"30s" desc:"how far what LeadGrid answers may lag behind what it holds"`
}

// Problems implements [Checker].
func (s Sweep) Problems() (problems []string) {
	for _, setting := range []struct {
		name  string
		value time.Duration
	}{{"SWEEP_ROTATION", s.Rotation}, {"SWEEP_HOT", s.Hot}, {"LEADGRID_LAG", s.Lag}} {
		if setting.value <= 0 {
			problems = append(problems, setting.name+" must be more than zero")
		}
	}
	if !s.Interval.Off() && s.Rotation < s.Interval.Duration() {
		problems = append(problems, "SWEEP_ROTATION must not be shorter than SWEEP_INTERVAL")
	}
	return problems
}

// Retention says how long each kind of data is kept.
type Retention struct {
	Events   Every `envconfig:"RETENTION_EVENTS" default:"720h" desc:"how long the bodies of webhooks are kept, or off; their ids, types and hashes stay"`
	Commands Every `envconfig:"RETENTION_COMMANDS" default:"2160h" desc:"how long the arguments and results of finished write-back commands are kept, or off"`
	History  Every `envconfig:"RETENTION_HISTORY" default:"17520h" desc:"how long versions of rows are kept that are no longer the last, or off"`
	Sweeps   Every `envconfig:"RETENTION_SWEEPS" default:"720h" desc:"how long the bookkeeping of sweeps and of deleted rows is kept, or off"`
}

// Every is an interval of a minute or more, or off.
type Every time.Duration

const never Every = -1

// Off reports whether it is off.
func (e Every) Off() bool { return e == never }

// Duration is the interval. It means nothing if Off.
func (e Every) Duration() time.Duration { return time.Duration(e) }

// String writes the value as one would set it.
func (e Every) String() string {
	if e.Off() {
		return "off"
	}
	return e.Duration().String()
}

// UnmarshalText reads "off", or a duration of a minute or more.
func (e *Every) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		*e = never
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err == nil && d < time.Minute {
		err = errors.New("less than a minute")
	}
	*e = Every(d)
	return err
}
