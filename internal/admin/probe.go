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

// probeTimeout is longer than /readyz takes even if every check hangs.
const probeTimeout = 5 * time.Second

// probe asks a program's /healthz or /readyz. Any answer but 200 is an error that quotes it.
func probe(ctx context.Context, url string) error {
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

// Healthcheck asks a program whether it is ready: at the one URL in urls or, if there is none, on this machine, at ADMIN_ADDR or
// else at addr. The programs offer it as a command because their image holds nothing else that could ask.
func Healthcheck(ctx context.Context, urls []string, addr string) error {
	if len(urls) == 1 {
		return probe(ctx, urls[0])
	}
	config := struct{ settings.Admin }{settings.Admin{Addr: addr}}
	if err := settings.Load(&config); err != nil {
		return err
	}
	return probe(ctx, readyURL(config.Addr))
}

// readyURL is the /readyz of a program on this machine whose ADMIN_ADDR is addr.
func readyURL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip.IsUnspecified()) {
		addr = net.JoinHostPort("localhost", port)
	}
	return "http://" + addr + "/readyz"
}
