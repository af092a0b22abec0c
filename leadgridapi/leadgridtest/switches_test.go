package leadgridtest_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

func TestSwitches(t *testing.T) {
	var s leadgridtest.Settings
	for _, w := range leadgridtest.Switches() {
		text := map[string]string{"bool": "true", "number": "3", "probability": "0.5", "duration": "2s", "list": "dossiers.city"}[w.Kind]
		if len(w.Values) > 0 {
			text = w.Values[len(w.Values)-1]
		}
		if err := s.Set(w.Name, text); err != nil {
			t.Errorf("%s=%s: %v", w.Name, text, err)
		}
		if w.Help == "" || w.Kind == "" {
			t.Errorf("%s: help %q, kind %q", w.Name, w.Help, w.Kind)
		}
	}
	for _, group := range reflect.ValueOf(s).Fields() {
		for field, value := range group.Fields() {
			if value.IsZero() {
				t.Errorf("%s was not set", field.Name)
			}
		}
	}
	for name, want := range map[string]string{
		"ordr=x": "there is no switch", "order=x": "one of oldest, newest", "slow=2": "from 0 to 1", "hang-for=1": "not a duration",
		"omits=city": "wants keys such as", "updated-on=field,moon": `cannot be "moon"`, "window=-1s": "negative", "ids=": "",
	} {
		key, value, _ := strings.Cut(name, "=")
		err := s.Set(key, value)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if err := s.Validate(); err != nil {
		t.Errorf("refused values stayed: %v", err)
	}
}
