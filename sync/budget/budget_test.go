package budget_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
)

// server is a real HTTP server that allows limit requests per fixed window.
type server struct {
	*httptest.Server
	limit   int
	window  time.Duration
	headers bool
	dates   bool

	mu       sync.Mutex
	end      time.Time
	n        int
	arrivals []arrival
}

type arrival struct {
	at      time.Time
	refused bool
	retry   time.Time // when the answer said to come again
	path    string
}

func serve(t testing.TB, s *server) *server {
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !now.Before(s.end) {
		s.end, s.n = now.Truncate(s.window).Add(s.window), 0
	}
	refused := s.n >= s.limit
	retry := s.end.Sub(now).Truncate(time.Second) + time.Second
	s.arrivals = append(s.arrivals, arrival{now, refused, now.Add(retry), r.URL.Path})
	if !refused {
		s.n++
	}
	if s.headers {
		w.Header().Set("X-RateLimit-Limit", strconv.Itoa(s.limit))
		w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(max(0, s.limit-s.n)))
	}
	if refused {
		if s.dates {
			w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
			w.Header().Set("Retry-After", now.Add(retry).UTC().Format(http.TimeFormat))
		} else {
			w.Header().Set("Retry-After", strconv.Itoa(int(retry/time.Second)))
		}
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"error":{"code":"rate_limited","message":"slow down"}}`)
		return
	}
	fmt.Fprint(w, `{"data":{"id":"d1"}}`)
}

func (s *server) seen() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]arrival(nil), s.arrivals...)
}

func (s *server) accepted() (n int) {
	for _, a := range s.seen() {
		if !a.refused {
			n++
		}
	}
	return n
}

// start is one process as far as the budget can tell: a pool, a Budget and a client of its own. It returns the client for
// requests of a share.
func start(t testing.TB, db, baseURL string, opts budget.Options) func(budget.Share) *leadgridapi.Client {
	b := budget.New(pgtest.Open(t, db), opts)
	run(t, b)
	client, err := leadgridapi.New(baseURL, "lg_live_test")
	if err != nil {
		t.Fatal(err)
	}
	return func(share budget.Share) *leadgridapi.Client { return client.WithLimiter(b.Share(share)) }
}

// Over HTTP, with the client: requests stop at the first refusal, and begin again when Retry-After has passed, given as
// seconds or as a date.
func TestPromise8_RetryAfterOverHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		dates bool
	}{{"seconds", false}, {"a date", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.URL(t)
			s := serve(t, &server{limit: 40, window: 4 * time.Second, dates: c.dates})
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for range 3 {
				client := start(t, db, s.URL, budget.Options{Patience: 30 * time.Second})
				for range 2 {
					wg.Go(func() {
						for s.accepted() < 100 {
							_, err := client(budget.Sweeps).Dossier(ctx, "d1")
							if err != nil && !errors.Is(err, leadgridapi.ErrRateLimited) {
								t.Error(err)
								return
							}
						}
					})
				}
			}
			wg.Wait()
			var refused, late, early int
			var from, until time.Time
			for _, a := range s.seen() {
				switch {
				case a.refused && (from.IsZero() || a.at.After(until)):
					refused++
					from, until = a.at, a.retry
				case a.at.Before(from.Add(750 * time.Millisecond)): // 250, and what a busy machine takes to send what it may
				case a.at.Before(until):
					early++
				}
				if a.refused {
					late++
				}
			}
			t.Logf("%d requests, %d refused in %d blocks", len(s.seen()), late, refused)
			if early > 0 || refused == 0 {
				t.Errorf("%d of %d requests came before Retry-After had passed; %d blocks", early, len(s.seen()), refused)
			}
		})
	}
}

// Over HTTP, in real time: three replicas with work for all shares share a real server's announced limit as promised.
func TestPromise8_SharesOverHTTP(t *testing.T) {
	t.Parallel()
	db := pgtest.URL(t)
	s := serve(t, &server{limit: 100, window: 2 * time.Second, headers: true})
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 3 {
		client := start(t, db, s.URL, budget.Options{})
		for _, share := range []budget.Share{budget.Events, budget.WriteBack, budget.Sweeps} {
			for range 4 {
				wg.Go(func() {
					for ctx.Err() == nil {
						_, err := client(share).Dossier(ctx, share.String())
						if noToken, ok := errors.AsType[*budget.NoTokenError](err); ok {
							select {
							case <-ctx.Done():
							case <-time.After(time.Until(noToken.Until)):
							}
						}
					}
				})
			}
		}
	}
	wg.Wait()
	arrivals := s.seen()
	learned := arrivals[0].at.Add(13 * time.Second)
	by := map[string]int{}
	n, refused := 0, 0
	for _, a := range arrivals {
		switch {
		case a.at.Before(learned):
		case a.refused:
			refused++
		default:
			n++
			by[a.path]++
		}
	}
	used := float64(n) / (50 * arrivals[len(arrivals)-1].at.Sub(learned).Seconds())
	t.Logf("%.0f%% of the limit used, %d refused, by share %v", 100*used, refused, by)
	if used < 0.3 { // learn_test.go knows more exactly; this machine may be busy
		t.Errorf("only %.0f%% of the limit used, on a machine however busy", 100*used)
	}
	if refused > 12 {
		t.Errorf("%d refused in 12 s", refused)
	}
	for share, want := range map[budget.Share]float64{budget.Events: 0.6, budget.WriteBack: 0.3, budget.Sweeps: 0.1} {
		if got := float64(by["/dossiers/"+share.String()]) / float64(n); got < want-0.07 || got > want+0.1 {
			t.Errorf("%v got %.0f%%, want %.0f%%", share, 100*got, 100*want)
		}
	}
}

func TestUnlimitedServerIsUsedFast(t *testing.T) {
	db := pgtest.URL(t)
	pool := pgtest.Open(t, db)
	b := budget.New(pool, budget.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	run(t, b)
	l := b.Share(budget.Sweeps)
	if err := l.Acquire(ctx); err != nil {
		t.Fatal(err)
	}
	var before int64
	if err := pool.QueryRow(ctx, `SELECT version FROM sync_budget`).Scan(&before); err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil && n.Load() < 20000 {
				sent := time.Now()
				if err := l.Acquire(ctx); err != nil {
					if _, ok := errors.AsType[*budget.NoTokenError](err); !ok && ctx.Err() == nil {
						t.Error(err)
						return
					}
					continue
				}
				n.Add(1)
				l.Observe(leadgridapi.Observation{Status: 200, Sent: sent, Answered: time.Now()})
			}
		})
	}
	began := time.Now()
	wg.Wait()
	var version int64 // counts updates from the time of the row's making, in microseconds
	if err := pool.QueryRow(t.Context(), `SELECT version FROM sync_budget`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	version -= before
	t.Logf("%d requests in %v, %d updates", n.Load(), time.Since(began), version)
	if n.Load() < 20000 {
		t.Errorf("only %d requests in 20 s", n.Load())
	}
	if version > n.Load()/20 {
		t.Errorf("%d updates for %d requests", version, n.Load())
	}
}
