package leadgridtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// BenchmarkMillion answers pages out of a million dossiers, without a network in between:
//
//	go test -bench Million -benchtime 2000x ./leadgridapi/leadgridtest
func BenchmarkMillion(b *testing.B) {
	if testing.Short() {
		b.Skip("a million dossiers take half a gigabyte")
	}
	s := leadgridtest.NewHandler(leadgridtest.Options{
		Settings: leadgridtest.Settings{Limits: leadgridtest.Limits{Requests: 1 << 40}}, LedgerSize: 100,
	})
	defer s.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const dossiers, contacts = 1_000_000, 200_000
	s.Seed(leadgridtest.Size{Dossiers: dossiers, Contacts: contacts, Links: 300_000, Notes: 500_000})
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Logf("%d MiB for a million dossiers", (after.HeapAlloc-before.HeapAlloc)>>20)

	for name, path := range map[string]string{
		"first":    "/dossiers?per_page=100",
		"last":     "/dossiers?per_page=100&page=10000",
		"archived": "/dossiers?per_page=100&status=archived&page=900",
		"contacts": "/contacts?per_page=100&page=2000",
		"kinds":    "/contacts?per_page=100&kind=client&kind=prospect&page=500",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				page(b, s, path)
			}
		})
	}
	b.Run("sweep", func(b *testing.B) {
		at := 0
		for b.Loop() {
			at = at%10_000 + 1
			page(b, s, fmt.Sprintf("/dossiers?per_page=100&page=%d", at))
		}
	})
	b.Run("edit", func(b *testing.B) {
		for b.Loop() {
			s.Stir(1)
		}
	})
}

func page(b *testing.B, s *leadgridtest.Server, path string) {
	request := httptest.NewRequest("GET", "/api/v1"+path, nil)
	request.Header.Set("Authorization", "Bearer "+s.Key())
	recorder := httptest.NewRecorder()
	s.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusOK {
		b.Fatal(recorder.Code, recorder.Body)
	}
}
