package mirror

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

// Pages are copied in side by side; the race detector sees it when they share more than they may.
func TestRowsAreWrittenSideBySide(t *testing.T) {
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for as, value := range map[mappings.Type]string{mappings.Boolean: `true`, mappings.Numeric: `1.50`, mappings.TextArray: `["a"]`} {
				if _, ok := appendBinary(nil, as, json.RawMessage(value)); !ok {
					t.Errorf("%v was not written as %v", value, as)
				}
			}
		})
	}
	writers.Wait()
}
