package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/ratio"
)

// peerPackages are what the peer is made of, in the versions it is measured in.
var peerPackages = []string{"@supabase/stripe-sync-engine@0.48.5", "stripe@23.1.0"}

// BenchmarkReceiverPeer compares our receiver with one that is widely used to the same end: it keeps Stripe's objects in
// Postgres. An event is a row there too, but is neither logged nor queued.
func BenchmarkReceiverPeer(b *testing.B) {
	folder := fetchPeer(b)
	pool, url := benchServer(b)
	peer := exec.Command("node", "peer.cjs")
	peer.Dir = folder
	peer.Env = append(os.Environ(), "PEER_DATABASE="+url, "PEER_SECRET="+testSecret, "NODE_ENV=production")
	receivers := map[string]*benchReceiver{"ours": startBenchReceiver(b, storeOurs, url), "peer": startBenchProcess(b, peer)}
	receivers["peer"].webhook = stripeWebhook
	for _, connections := range []int{64, 256} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			results := map[string][]load{}
			for b.Loop() {
				for _, store := range []string{"ours", "peer"} {
					if _, err := pool.Exec(b.Context(), `TRUNCATE stripe.customers`); err != nil {
						b.Fatal(err)
					}
					results[store] = append(results[store], receivers[store].measure(b, pool, connections, 2*time.Second, true))
				}
				last := results["peer"][len(results["peer"])-1]
				var rows int
				if err := pool.QueryRow(b.Context(), `SELECT count(*) FROM stripe.customers`).Scan(&rows); err != nil || rows != len(last.acks) {
					b.Fatalf("the peer acked %d events and has %d rows, %v", len(last.acks), rows, err)
				}
			}
			for _, store := range []string{"ours", "peer"} {
				logLoads(b, store, results[store])
			}
			ratio.Report(b, "×peer", ratio.Of(results["ours"], results["peer"], load.rate))
			b.ReportMetric(0, "ns/op")
		})
	}
}

// fetchPeer installs the peer into .tmp, where it stays, and returns its folder.
func fetchPeer(b *testing.B) string {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Skipf("the peer is not measured: there is no %s here", program)
		}
	}
	folder, err := filepath.Abs("../../.tmp/peer")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		b.Fatal(err)
	}
	install := exec.Command("npm", append([]string{"install", "--prefix", folder, "--no-audit", "--no-fund", "--prefer-offline"}, peerPackages...)...)
	if out, err := install.CombinedOutput(); err != nil {
		b.Skipf("the peer is not measured: npm could not fetch it: %v\n%s", err, out)
	}
	script, err := os.ReadFile("testdata/peer.cjs")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "peer.cjs"), script, 0o644); err != nil {
		b.Fatal(err)
	}
	return folder
}

// stripeWebhook is an event of 600 bytes with a new customer in it.
func stripeWebhook() *webhook {
	return newWebhook("/", "Stripe-Signature", testSecret, fmt.Sprintf(`{"id":"evt_%s","object":"event","api_version":"2020-08-27",`+
		`"created":1777629600,"type":"customer.created","data":{"object":{"id":"cus_%[1]s","object":"customer","name":"Jan Jansen",`+
		`"email":"jan@example.com","created":1777629600,"livemode":false,"description":%q}}}`,
		numberPlace, strings.Repeat("a word or two on this customer; ", 11)))
}
