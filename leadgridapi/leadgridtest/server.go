package leadgridtest

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options start a server. The zero value is a well-behaved LeadGrid without faults.
type Options struct {
	Settings

	Key        string           // the first organization's key; default "lg_live_test"
	Scopes     []string         // what that key may do; nil means everything
	Seed       uint64           // drives ids, generated data and faults
	Now        func() time.Time // the clock; default time.Now
	Logger     *slog.Logger     // one line per request; default none
	OnRequest  func(Request) Fault
	LedgerSize int // how many requests, creates, events and deliveries to remember; 0 means all
}

// Scopes a key can have.
var Scopes = []string{
	"dossiers:read", "dossiers:write", "contacts:read", "contacts:write", "flows:read", "notes:read", "notes:write",
}

// basePath is where the API lives; the www address of the Redirect habit is below it.
const (
	basePath = "/api/v1"
	wwwPath  = "/www" + basePath
)

// Server is a LeadGrid with at least one organization, to which the embedded methods belong.
type Server struct {
	*Organization // the first one

	opts     Options
	settings atomic.Pointer[settings]
	http     *httptest.Server // nil when only a handler
	done     chan struct{}    // closed by Close
	closing  sync.Once

	mu            sync.Mutex
	keys          map[string]*key
	windows       map[string]*window
	organizations []*Organization
	ledger        ledger
	dice          dice
}

// settings in force, with what is worked out from them once.
type settings struct {
	Settings
	omitRead, omitList, omitWrite omitted
}

type key struct {
	organization *Organization
	scopes       []string
}

// New starts a server on a free port of the loopback interface. It panics if a switch holds what it cannot.
func New(opts Options) *Server {
	s := NewHandler(opts)
	s.http = httptest.NewServer(s)
	return s
}

// NewHandler returns a server that does not listen, for use as an http.Handler. Close it all the same.
func NewHandler(opts Options) *Server {
	opts.Key = cmp.Or(opts.Key, "lg_live_test")
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		opts: opts, done: make(chan struct{}),
		keys: map[string]*key{}, windows: map[string]*window{},
		ledger: ledger{size: opts.LedgerSize}, dice: dice{seed: opts.Seed, rolled: map[uint64]uint64{}},
	}
	s.Configure(opts.Settings)
	s.Organization = s.NewOrganization()
	s.SetKey(opts.Key, s.Organization, opts.Scopes...)
	return s
}

// URL is the base URL to give to a client, path included. It is empty for a NewHandler.
func (s *Server) URL() string {
	if s.http == nil {
		return ""
	}
	return s.http.URL + basePath
}

// Key is the key given to the first organization at the start.
func (s *Server) Key() string { return s.opts.Key }

// Close stops the server: hanging requests are dropped and webhooks not yet delivered are forgotten.
func (s *Server) Close() {
	s.closing.Do(func() {
		close(s.done)
		if s.http != nil {
			s.http.CloseClientConnections()
			s.http.Close()
		}
		for _, o := range s.Organizations() {
			o.hooks.stop()
		}
	})
}

// Settings returns the switches in force.
func (s *Server) Settings() Settings { return s.settings.Load().Settings }

// Configure changes the switches from the next request on. It panics if one holds what it cannot.
func (s *Server) Configure(to Settings) {
	if err := to.Validate(); err != nil {
		panic("leadgridtest: " + err.Error())
	}
	h := to.Habits
	s.settings.Store(&settings{
		Settings: to,
		omitRead: omit(h.Omits), omitList: omit(h.Omits, h.ListOmits), omitWrite: omit(h.Omits, h.WriteOmits),
	})
	for _, o := range s.Organizations() {
		o.setReplica(h.ReplicaLag > 0)
	}
}

// Change changes some switches: server.Change(func(s *leadgridtest.Settings) { s.Faults = leadgridtest.Faults{} }).
func (s *Server) Change(change func(*Settings)) {
	to := s.Settings()
	change(&to)
	s.Configure(to)
}

// NewOrganization adds an organization, empty and without a key.
func (s *Server) NewOrganization() *Organization {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := uint64(len(s.organizations))
	o := &Organization{
		server: s, active: true,
		rng:   rand.New(rand.NewPCG(s.opts.Seed, 2*n)),
		fancy: rand.New(rand.NewPCG(s.opts.Seed, 2*n+1)),
		state: newState(), cvs: map[string]CV{},
	}
	o.id = o.newID("organization")
	o.hooks = newHooks(s, n)
	if s.Settings().Habits.ReplicaLag > 0 {
		o.replica = o.state.clone()
	}
	s.organizations = append(s.organizations, o)
	return o
}

// Organizations lists them all, the first one first.
func (s *Server) Organizations() []*Organization {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.organizations)
}

// SetKey makes a key belong to an organization, with the scopes named or, without any, all of them. The same
// key can be given to another organization later, or scopes taken from it.
func (s *Server) SetKey(text string, o *Organization, scopes ...string) {
	if len(scopes) == 0 {
		scopes = Scopes
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[text] = &key{organization: o, scopes: slices.Clone(scopes)}
}

// RevokeKey makes a key get 401 from now on.
func (s *Server) RevokeKey(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, text)
}

// ServeHTTP answers API requests below /api/v1.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(&call{server: s, settings: s.settings.Load(), r: r, started: time.Now()}).serve(w)
}
