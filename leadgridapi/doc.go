// Package leadgridapi speaks to LeadGrid, the hosted pipeline tool for
// recruitment and sales agencies: a client for its whole HTTP API, and what a
// receiver of its webhooks needs. It imports nothing but the standard library.
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
// [Dossier], [Contact], [Link], [Flow], [Stage] and [Note] carry the documented
// fields, and in Raw the exact bytes LeadGrid sent for that object. Decoding
// is forgiving on purpose: a field of an unexpected type leaves its Go field
// zero, an unknown field is only in Raw, and neither spoils the object or the
// page it came in. Where null must be told from absent, ask Raw.
//
// # Lists
//
// Each list has two methods. The one named List… makes one request and returns
// one [Page]; the other is an iterator over all pages, which yields an error
// at most once, as its last pair. Lists move while they are read, and LeadGrid
// promises no order, so neither is a snapshot.
//
// # Errors
//
// What went wrong is told by type: [*Error] is LeadGrid's own refusal, and
// matches [ErrNotFound] and its siblings with [errors.Is]; [*RateLimitError] is
// a refusal that says how long to wait; [*ProtocolError] is an answer that
// cannot be understood; [*TransportError] is no answer at all. [Sent] says of
// any of them whether LeadGrid may have seen the request. The texts of these
// errors hold methods, paths and statuses, but never the key, nor anything a
// person typed: they are safe to log.
//
// The client sends each request once. Whether to try again is for the caller
// to decide, who knows what a second attempt would do.
//
// # Webhooks
//
// A [Verifier] tells authentic requests from others, [ParseEvent] reads their
// body, and [Sign] makes the signature, for tests.
package leadgridapi
