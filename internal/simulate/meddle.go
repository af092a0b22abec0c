package simulate

import (
	"math/rand/v2"
	"sync"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// meddler edits just before a page of a list is answered, so that rows move from page to page under the sweep's eyes.
func (r *run) meddler(rng *rand.Rand) func(leadgridtest.Request) leadgridtest.Fault {
	var mu sync.Mutex
	left := mostMeddling
	return func(request leadgridtest.Request) leadgridtest.Fault {
		kinds := meddlings[request.Operation]
		if kinds == nil || !r.meddling.Load() {
			return ""
		}
		mu.Lock()
		defer mu.Unlock()
		n := min(rng.IntN(4), left)
		left -= n
		for range n {
			r.server.Stir(1, kinds[rng.IntN(len(kinds))])
		}
		return ""
	}
}

// mostMeddling bounds it: a list that does not hold still is passed over the more often, and would be meddled with for ever.
const mostMeddling = 120

// meddlings are the edits that move the rows of each list.
var meddlings = map[string][]string{
	"dossiers.list": {"dossier.create", "dossier.remove", "dossier.update", "dossier.archive"},
	"contacts.list": {"contact.create", "contact.remove", "contact.update"},
}
