// Package leadgridapi talks to LeadGrid, the hosted pipeline tool for
// recruitment and sales agencies. It has a client for the whole HTTP API, and
// what a receiver of LeadGrid's webhooks needs. It imports nothing but the
// standard library.
//
//	client, err := leadgridapi.New(leadgridapi.DefaultBaseURL, os.Getenv("LEADGRID_API_KEY"))
//	…
//	for dossier, err := range client.Dossiers(ctx, leadgridapi.DossierFilter{Status: leadgridapi.StatusActive}) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(dossier.ID, dossier.Name)
//	}
//
// # Objects
//
// [Dossier], [Contact], [Link], [Flow], [Stage] and [Note] have the documented
// fields and, in Raw, the exact bytes LeadGrid sent for that object. Decoding
// is forgiving on purpose: a field of an unexpected type leaves its Go field
// zero, an unknown field is only in Raw, and neither makes decoding the object
// or its page fail. To tell null from absent, look at Raw.
//
// # Lists
//
// Each list has two methods. The one named List… makes one request and returns
// one [Page]. The other is an iterator over all pages, which yields at most one
// error, as its last pair. Lists may change while they are read, and LeadGrid
// promises no order, so neither is a snapshot. The ListRaw… methods are List…
// without decoding.
//
// # Errors
//
// An [*Error] is LeadGrid's refusal, and matches [ErrNotFound] and its siblings
// with [errors.Is]. A [*RateLimitError] is a refusal that says how long to
// wait. A [*ProtocolError] is an answer that cannot be understood, and a
// [*TransportError] means that there was none. [Sent] reports of any of them
// whether LeadGrid may have seen the request. These errors are safe to log:
// their texts hold methods, paths and statuses, but never the key or anything
// a person typed.
//
// The client sends each request once. Whether to try again is up to the
// caller, who knows what a second attempt would do.
//
// # Webhooks
//
// A [Verifier] recognizes authentic requests, [ParseEvent] reads their bodies,
// and [Sign] makes signatures, for tests.
package leadgridapi
