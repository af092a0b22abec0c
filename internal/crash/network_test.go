package crash_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
)

// network is what lies between the programs and what they talk to.
type network struct {
	leadgrid, workerDB, receiverDB *toxiproxy.Proxy
}

func (n *network) all() []*toxiproxy.Proxy {
	return []*toxiproxy.Proxy{n.leadgrid, n.workerDB, n.receiverDB}
}

// through leads the programs through proxies.
func (n *network) through(t *testing.T) func(w *world) {
	return func(w *world) {
		t.Helper()
		base, err := url.Parse(w.URL())
		if err != nil {
			t.Fatal(err)
		}
		database := relay(t, w.env["DATABASE_URL"])
		server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
		proxy := func(name, upstream string) *toxiproxy.Proxy {
			p := toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Stop)
			return p
		}
		n.leadgrid, n.workerDB, n.receiverDB = proxy("leadgrid", base.Host), proxy("worker-db", database), proxy("receiver-db", database)
		base.Host = n.leadgrid.Listen
		to := func(p *toxiproxy.Proxy) string {
			return "DATABASE_URL=postgres://postgres@" + p.Listen + "/postgres?sslmode=disable"
		}
		w.worker.route = []string{"LEADGRID_BASE_URL=" + base.String(), to(n.workerDB)}
		w.receiver.route = []string{to(n.receiverDB)}
	}
}

// relay makes a Postgres that listens on a Unix socket reachable by TCP.
func relay(t *testing.T, databaseURL string) (address string) {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return // closed
			}
			far, err := net.Dial("unix", filepath.Join(config.Host, ".s.PGSQL.5432"))
			if err != nil {
				near.Close()
				continue
			}
			pipe := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				to.Close()
			}
			go pipe(near, far)
			go pipe(far, near)
		}
	}()
	return listener.Addr().String()
}

// toxic is a fault of the network, by toxiproxy's name.
type toxic struct {
	kind, stream string
	attributes   map[string]any
}

// under puts a toxic on the proxies while work goes on, and takes it away.
func under(t *testing.T, proxies []*toxiproxy.Proxy, one toxic, work func()) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"name": "weather", "type": one.kind, "stream": one.stream, "toxicity": 1.0, "attributes": one.attributes,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, proxy := range proxies {
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(string(body))); err != nil {
			t.Fatal(err)
		}
	}
	work()
	for _, proxy := range proxies {
		if err := proxy.Toxics.RemoveToxic(context.WithoutCancel(t.Context()), "weather"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPromise6_AnyNetwork lets people edit and a sweep run over a network that is slow, cuts connections, swallows what is
// sent, or lets only some bytes through. Once it is well again every event must be processed, without a restart of
// anything, nothing acked may be lost, and a sync must make the mirror equal.
func TestPromise6_AnyNetwork(t *testing.T) {
	t.Parallel()
	var n network
	w := newWorld(t, 5, n.through(t))
	w.sync(t)
	live := func(d time.Duration) func() {
		return func() {
			working, stop := context.WithTimeout(t.Context(), d)
			defer stop()
			w.Live(working, 40)
		}
	}
	databases := []*toxiproxy.Proxy{n.workerDB, n.receiverDB}
	for _, weather := range []struct {
		name string
		long bool // until time-outs end
		play func()
	}{
		{"latency", false, func() {
			under(t, n.all(), toxic{"latency", "downstream", map[string]any{"latency": 40, "jitter": 30}}, live(2*time.Second))
		}},
		{"cuts", false, func() {
			for range 3 {
				for _, proxy := range n.all() {
					proxy.Stop()
				}
				live(200 * time.Millisecond)()
				for _, proxy := range n.all() {
					if err := proxy.Start(); err != nil {
						t.Fatal(err)
					}
				}
				live(500 * time.Millisecond)()
			}
		}},
		{"limited bytes", false, func() {
			under(t, n.all(), toxic{"limit_data", "downstream", map[string]any{"bytes": 20_000}}, live(2*time.Second))
		}},
		{"half-open LeadGrid", true, func() {
			under(t, []*toxiproxy.Proxy{n.leadgrid}, toxic{"timeout", "downstream", map[string]any{"timeout": 0}}, live(2*time.Second))
		}},
		{"half-open databases", true, func() {
			under(t, databases, toxic{"timeout", "downstream", map[string]any{"timeout": 0}}, live(2*time.Second))
		}},
	} {
		if weather.long && !*long {
			continue
		}
		t.Run(weather.name, func(t *testing.T) {
			began := time.Now()
			w.ask(t)
			weather.play()
			if err := w.DrainWebhooks(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !*long {
				w.letAMinutePass(t)
			}
			w.awaitEvents(t)
			settled := time.Since(began)
			w.wantNothingLost(t)
			w.wantNothingTwice(t)
			w.sync(t)
			w.wantEqual(t)
			t.Logf("settled after %v, equal after %v; %d events acked so far",
				settled.Round(time.Second), time.Since(began).Round(time.Second), w.acked())
		})
	}
}
