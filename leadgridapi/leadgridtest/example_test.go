package leadgridtest_test

import (
	"fmt"
	"io"
	"net/http"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func Example() {
	server := leadgridtest.New(leadgridtest.Options{Settings: leadgridtest.Settings{
		Habits: leadgridtest.Habits{ListOmits: leadgridtest.ThinRows, Order: "newest", RetryAfter: "date"},
		Limits: leadgridtest.Limits{Requests: 1},
	}})
	defer server.Close()
	server.CreateDossier(leadgridtest.Fields{"type": "sales", "name": "Van Houten B.V.", "deal_size": 45000})

	for range 2 {
		request, _ := http.NewRequest("GET", server.URL()+"/dossiers", nil)
		request.Header.Set("Authorization", "Bearer "+server.Key())
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			fmt.Println(err)
			return
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		fmt.Println(response.Status, response.Header.Get("X-RateLimit-Remaining"), "left")
	}
	fmt.Println(len(server.Snapshot()[leadgridtest.Dossiers]), "dossier,", len(server.Ledger()), "requests")
	// Output:
	// 200 OK 0 left
	// 429 Too Many Requests 0 left
	// 1 dossier, 2 requests
}
