// Package crash holds the test that kills the real programs and their Postgres while they work (promise 13). It has no
// code of its own.
package crash
