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

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/leadgrid-sync/leadgrid-sync/internal/pgtest"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/budget"
)

// server is a real HTTP server that allows limit requests per fixed window.
type server struct {
	*httptest.Server
	limit     int
	window    time.Duration
	headers   bool
	dates     bool
	unlimited atomic.Bool

	mu       sync.Mutex
	end      time.Time
	n        int
	arrivals []arrival
}

type arrival struct {
	at      time.Time
	refused bool
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
	refused := s.n >= s.limit && !s.unlimited.Load()
	s.arrivals = append(s.arrivals, arrival{now, refused, r.URL.Query().Get("share")})
	if !refused {
		s.n++
	}
	if s.headers {
		w.Header().Set("X-RateLimit-Limit", strconv.Itoa(s.limit))
		w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(max(0, s.limit-s.n)))
	}
	if refused {
		wait := time.Until(s.end)
		if s.dates {
			w.Header().Set("Retry-After", s.end.Add(time.Second).UTC().Format(http.TimeFormat))
		} else {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
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

// replica is one process as far as the budget can tell: its own pool, its own Budget, its own client.
type replica struct {
	pool   *pgxpool.Pool
	budget *budget.Budget
	client *leadgridapi.Client
	stop   func()
}

func (r *replica) api(share budget.Share) *leadgridapi.Client {
	return r.client.WithLimiter(r.budget.Share(share))
}

func start(t testing.TB, db, baseURL string, opts budget.Options) *replica {
	r := &replica{pool: pgtest.Open(t, db)}
	r.budget = budget.New(r.pool, opts)
	client, err := leadgridapi.New(baseURL, "lg_live_test")
	if err != nil {
		t.Fatal(err)
	}
	r.client = client
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.budget.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func TestPromise8_RefusalStopsOtherReplicas(t *testing.T) {
	db := pgtest.URL(t)
	s := serve(t, &server{limit: 40, window: time.Hour})
	var replicas []*replica
	for range 3 {
		replicas = append(replicas, start(t, db, s.URL, budget.Options{}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var gaveUp atomic.Int32
	for _, r := range replicas {
		for range 2 {
			wg.Go(func() {
				for ctx.Err() == nil {
					_, err := r.api(budget.Sweeps).Dossier(ctx, "d1")
					if noToken, ok := errors.AsType[*budget.NoTokenError](err); ok {
						if time.Until(noToken.Until) > time.Second {
							gaveUp.Add(1)
							return
						}
					} else if err != nil && !errors.Is(err, leadgridapi.ErrRateLimited) {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if gaveUp.Load() != 6 {
		t.Errorf("%d of 6 workers met a NoTokenError that names the end of the block", gaveUp.Load())
	}
	var first time.Time
	late := time.Duration(0)
	for _, a := range s.seen() {
		if a.refused && first.IsZero() {
			first = a.at
		}
		if !first.IsZero() {
			late = a.at.Sub(first)
		}
	}
	if first.IsZero() {
		t.Fatal("no request was refused")
	}
	t.Logf("last request %v after the first refusal, of %d", late, len(s.seen()))
	if late > 250*time.Millisecond {
		t.Errorf("a request was sent %v after the first refusal", late)
	}
	status, err := replicas[0].budget.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if status.BlockedUntil.Before(time.Now().Add(time.Minute)) && time.Until(s.end) > 2*time.Minute || status.BlockedWhy == "" {
		t.Errorf("status does not show the block: %+v", status)
	}
}

func TestUnlimitedServerIsUsedFast(t *testing.T) {
	db := pgtest.URL(t)
	pool := pgtest.Open(t, db)
	b := budget.New(pool, budget.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go b.Run(ctx)
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
					if _, ok := budget.IsNoToken(err); !ok && ctx.Err() == nil {
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
