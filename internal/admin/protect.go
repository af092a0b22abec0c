package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
)

// Protect puts a page behind a user and a password, and refuses requests that other sites make a browser send. It calls
// password at each request, since it may change; an empty password lets nobody in.
func Protect(user string, password func() string, page http.Handler) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := password()
		gotUser, gotPassword, ok := r.BasicAuth()
		sameUser, samePassword := same(gotUser, user), same(gotPassword, want)
		if !ok || want == "" || !sameUser || !samePassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="leadgrid-sync", charset="UTF-8"`)
			http.Error(w, "user and password, please", http.StatusUnauthorized)
			return
		}
		page.ServeHTTP(w, r)
	}))
}

// same compares in constant time, whatever the lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
