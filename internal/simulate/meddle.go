package simulate

import (
	"math/rand/v2"
	"sync"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// meddler edits just before a request is answered: between the pages of a list, so that rows move from page to page under the
// sweep's eyes, and between the objects that are read one by one. Edits spread over the requests, however fast the machine is.
func (r *run) meddler(rng *rand.Rand) func(leadgridtest.Request) leadgridtest.Fault {
	var mu sync.Mutex
	left := mostMeddling * r.scale
	return func(request leadgridtest.Request) leadgridtest.Fault {
		if !r.meddling.Load() {
			return ""
		}
		mu.Lock()
		defer mu.Unlock()
		n, kinds := rng.IntN(4), meddlings[request.Operation]
		if kinds == nil && rng.IntN(6) > 0 {
			return ""
		}
		n = min(n, left)
		left -= n
		for range n {
			if kinds == nil {
				r.server.Stir(1)
				continue
			}
			r.server.Stir(1, kinds[rng.IntN(len(kinds))])
		}
		return ""
	}
}

// mostMeddling bounds it: a list that does not hold still is passed over the more often, and would be meddled with for ever.
const mostMeddling = 24

// meddlings are the edits that move the rows of each list.
var meddlings = map[string][]string{
	"dossiers.list": {"dossier.create", "dossier.remove", "dossier.update", "dossier.archive"},
	"contacts.list": {"contact.create", "contact.remove", "contact.update"},
}
