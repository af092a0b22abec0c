// Package eventually lets tests wait for a condition.
package eventually

import (
	"testing"
	"time"
)

// longest is how long a test looks away at most.
const longest = 100 * time.Millisecond

// True waits until the condition holds, and fails the test after two minutes; why, if given, then says what was seen instead. It
// looks often at first and ever less often later, so that a test that waits for long leaves the processors to those that work.
func True(t testing.TB, what string, condition func() bool, why ...func() string) {
	t.Helper()
	Within(t, 2*time.Minute, what, condition, why...)
}

// Within is True with another limit.
func Within(t testing.TB, limit time.Duration, what string, condition func() bool, why ...func() string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; !condition(); pause = min(pause+pause/2, longest) {
		if time.Now().After(deadline) {
			for _, why := range why {
				t.Log(why())
			}
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(pause)
	}
}
