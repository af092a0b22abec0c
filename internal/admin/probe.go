package admin

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
)

// probeTimeout is above what /readyz takes when each of its checks hangs.
const probeTimeout = 5 * time.Second

// Probe asks a program's /healthz or /readyz: an image without a shell has nothing else to ask with. Its error says what
// the answer was, unless it was 200.
func Probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	return fmt.Errorf("%s answered %s: %s", url, response.Status, strings.ReplaceAll(strings.TrimSpace(string(body)), "\n", "; "))
}

// Healthcheck asks the program at the url given, or else the one on this machine, whether it is ready: the image holds no other
// program that could. Without ADMIN_ADDR it listens on addr.
func Healthcheck(ctx context.Context, urls []string, addr string) error {
	if len(urls) == 1 {
		return Probe(ctx, urls[0])
	}
	config := struct{ settings.Admin }{settings.Admin{Addr: addr}}
	if err := settings.Load(&config); err != nil {
		return err
	}
	return Probe(ctx, ReadyURL(config.Addr))
}

// ReadyURL is where a program on this machine whose ADMIN_ADDR is addr says whether it is ready.
func ReadyURL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip.IsUnspecified()) {
		addr = net.JoinHostPort("localhost", port)
	}
	return "http://" + addr + "/readyz"
}
