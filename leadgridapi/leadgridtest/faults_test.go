package leadgridtest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// faulty starts a server on which every request meets one fault.
func faulty(t *testing.T, set func(*leadgridtest.Faults)) *leadgrid {
	var settings leadgridtest.Settings
	set(&settings.Faults)
	return start(t, leadgridtest.Options{Settings: settings})
}

func TestFaults(t *testing.T) {
	silent := func(g got) bool { return g.err != nil && g.status == 0 }
	for name, row := range map[string]struct {
		set   func(*leadgridtest.Faults)
		fault leadgridtest.Fault
		acted bool
		like  func(got) bool
	}{
		"429":         {func(f *leadgridtest.Faults) { f.RateLimited = 1 }, leadgridtest.Healthy, false, func(g got) bool { return g.status == 429 && g.header.Get("Retry-After") != "" }},
		"500 before":  {func(f *leadgridtest.Faults) { f.ErrorBefore = 1 }, leadgridtest.ErrorBefore, false, func(g got) bool { return g.status == 500 && g.code() == "internal" }},
		"500 after":   {func(f *leadgridtest.Faults) { f.ErrorAfter = 1 }, leadgridtest.ErrorAfter, true, func(g got) bool { return g.status == 500 && g.code() == "internal" }},
		"502":         {func(f *leadgridtest.Faults) { f.BadGateway = 1 }, leadgridtest.BadGateway, false, func(g got) bool { return g.status == 502 && strings.HasPrefix(g.raw, "<html>") }},
		"hang before": {func(f *leadgridtest.Faults) { f.HangBefore, f.HangFor = 1, time.Millisecond }, leadgridtest.HangBefore, false, silent},
		"hang after":  {func(f *leadgridtest.Faults) { f.HangAfter, f.HangFor = 1, time.Millisecond }, leadgridtest.HangAfter, true, silent},
		"reset before": {func(f *leadgridtest.Faults) { f.ResetBefore = 1 }, leadgridtest.ResetBefore, false, func(g got) bool {
			return silent(g) && errors.Is(g.err, syscall.ECONNRESET)
		}},
		"reset after": {func(f *leadgridtest.Faults) { f.ResetAfter = 1 }, leadgridtest.ResetAfter, true, silent},
		"truncated":   {func(f *leadgridtest.Faults) { f.Truncated = 1 }, leadgridtest.Truncated, true, func(g got) bool { return g.status == 201 && g.body == nil }},
		"slow":        {func(f *leadgridtest.Faults) { f.Slow, f.SlowFor = 1, time.Millisecond }, leadgridtest.Slow, true, func(g got) bool { return g.status == 201 && g.body != nil }},
	} {
		t.Run(name, func(t *testing.T) {
			l := faulty(t, row.set)
			g := l.call("POST", "/dossiers", object{"type": "candidate", "name": "A"})
			if !row.like(g) {
				t.Errorf("got %d %q %v", g.status, g.raw, g.err)
			}
			if made := len(l.DossierIDs()) == 1; made != row.acted || len(l.Creates()) == 1 != row.acted {
				t.Errorf("executed: %v, creates %v", made, l.Creates())
			}
			entry := l.Ledger()[0]
			if entry.Operation != "dossiers.create" || entry.Acted != row.acted || entry.Organization != l.ID() || entry.Status != g.status {
				t.Errorf("ledger: %+v", entry)
			}
			if row.fault != leadgridtest.Healthy && entry.Fault != row.fault {
				t.Errorf("fault %q, want %q", entry.Fault, row.fault)
			}
		})
	}
}

// Both ways a body can break off: as announced, and short of it.
func TestTruncatedBothWays(t *testing.T) {
	l := faulty(t, func(f *leadgridtest.Faults) { f.Truncated = 1 })
	whole, short := 0, 0
	for range 40 {
		switch g := l.call("GET", "/flows", nil); {
		case g.body != nil:
			t.Fatalf("the body is complete: %s", g.raw)
		case errors.Is(g.err, io.ErrUnexpectedEOF):
			short++
		case g.err == nil:
			whole++
		default:
			t.Fatal(g.err)
		}
	}
	if whole == 0 || short == 0 {
		t.Errorf("%d whole bodies, %d short ones", whole, short)
	}
}

func TestOnRequestBreaksOneRequest(t *testing.T) {
	var mu sync.Mutex
	left := 1
	l := start(t, leadgridtest.Options{OnRequest: func(r leadgridtest.Request) leadgridtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.Operation == "notes.create" && left > 0 {
			left--
			return leadgridtest.ErrorAfter
		}
		return ""
	}})
	id := l.create(object{"type": "candidate", "name": "A"})
	l.want(500, "POST", at("dossiers", id, "notes"), object{"content": "B"})
	l.want(201, "POST", at("dossiers", id, "notes"), object{"content": "B"})
	bodies := map[string]int{}
	for _, c := range l.Creates() {
		bodies[c.Operation+c.Body]++
	}
	if bodies[`notes.create{"content":"B"}`] != 2 {
		t.Errorf("the double is not in the ledger: %v", bodies)
	}
}

// What happens to a request follows from the seed, whatever else is going on.
func TestFaultsFollowFromTheSeed(t *testing.T) {
	statuses := func(seed uint64, noise bool) (all []int) {
		var s leadgridtest.Settings
		s.Faults.ErrorBefore, s.Faults.RateLimited = 0.2, 0.2
		l := start(t, leadgridtest.Options{Settings: s, Seed: seed})
		stop := make(chan struct{})
		var others sync.WaitGroup
		if noise {
			others.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						l.call("GET", "/contacts", nil)
					}
				}
			})
		}
		for range 30 {
			all = append(all, l.call("GET", "/dossiers", nil).status)
		}
		close(stop)
		others.Wait()
		return all
	}
	quiet := statuses(1, false)
	if noisy := statuses(1, true); !slices.Equal(quiet, noisy) {
		t.Errorf("the same seed:\n%v\n%v", quiet, noisy)
	}
	if other := statuses(2, false); slices.Equal(quiet, other) {
		t.Errorf("another seed, the same faults: %v", other)
	}
	for _, status := range []int{200, 429, 500} {
		if !slices.Contains(quiet, status) {
			t.Errorf("no %d in %v", status, quiet)
		}
	}
}

func TestTheSameSeedMakesTheSameData(t *testing.T) {
	now := time.Date(2026, 4, 15, 10, 30, 0, 0, time.UTC)
	made := func(seed uint64) leadgridtest.Snapshot {
		l := start(t, leadgridtest.Options{Seed: seed, Now: func() time.Time { return now }})
		l.Seed(leadgridtest.Size{Dossiers: 200, Contacts: 100, Links: 250, Notes: 300, Odd: 0.05})
		l.Stir(100)
		return l.Snapshot()
	}
	if a, b := fmt.Sprint(made(1)), fmt.Sprint(made(1)); a != b {
		t.Error("the same seed made other data")
	}
	if a, b := fmt.Sprint(made(1)), fmt.Sprint(made(2)); a == b {
		t.Error("another seed made the same data")
	}
}

func TestCloseLetsHangingRequestsGo(t *testing.T) {
	arrived := make(chan struct{}, 1)
	s := leadgridtest.New(leadgridtest.Options{OnRequest: func(leadgridtest.Request) leadgridtest.Fault {
		arrived <- struct{}{}
		return leadgridtest.HangBefore
	}})
	failed := make(chan error, 1)
	go func() {
		request, _ := http.NewRequest("GET", s.URL()+"/dossiers", nil)
		request.Header.Set("Authorization", "Bearer "+s.Key())
		_, err := http.DefaultTransport.RoundTrip(request)
		failed <- err
	}()
	<-arrived
	s.Close()
	if err := <-failed; err == nil {
		t.Error("the hanging request was answered")
	}
}

// Everything at once, for the race detector; and afterwards the state still adds up.
func TestConcurrentUse(t *testing.T) {
	l := start(t, leadgridtest.Options{Settings: leadgridtest.Settings{Habits: leadgridtest.Habits{ReplicaLag: time.Millisecond, ReplicaShare: 0.5}}})
	r := receive(t)
	l.RegisterWebhook(r.URL, "secret")
	l.Seed(leadgridtest.Size{Dossiers: 50, Contacts: 30, Links: 50, Notes: 50})
	var all sync.WaitGroup
	for _, do := range []func(int){
		func(int) { l.Stir(3) },
		func(int) { l.call("POST", "/dossiers", object{"type": "sales", "name": "A"}) },
		func(i int) { l.call("GET", fmt.Sprintf("/dossiers?page=%d", i%4+1), nil) },
		func(int) { l.call("GET", "/contacts?search=a", nil) },
		func(int) { l.Snapshot() },
		func(i int) {
			l.Change(func(s *leadgridtest.Settings) {
				s.Habits.Order = []string{"random", "updated", "unstable", ""}[i%4]
				s.Habits.ReplicaLag = time.Duration(i%2) * time.Millisecond
				s.Faults.WebhookReordered = 0.3
			})
		},
		func(int) { l.Ledger(); l.Creates(); l.Events(); l.Deliveries() },
	} {
		all.Go(func() {
			for i := range 40 {
				do(i)
			}
		})
	}
	all.Wait()
	l.Configure(leadgridtest.Settings{})
	compare(t, l.everything(), l.Snapshot())
	if sent, got := len(l.Events()), len(r.all(l)); sent != got {
		t.Errorf("%d events fired, %d delivered", sent, got)
	}
}
