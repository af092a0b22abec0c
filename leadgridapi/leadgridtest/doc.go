// Package leadgridtest is a stand-in LeadGrid for tests, as httptest is for HTTP: the whole API with real
// state behind real HTTP, signed webhooks with retries, rate limits, and a switch for everything that
// LeadGrid's contract leaves open.
//
//	server := leadgridtest.New(leadgridtest.Options{})
//	defer server.Close()
//	server.Seed(leadgridtest.Size{Dossiers: 100, Contacts: 200, Notes: 500})
//	// point a client at server.URL() with the key server.Key()
//
// [Habits] say how this LeadGrid behaves where the contract is silent, [Faults] what goes wrong and how
// often, and [Limits] how much it allows. All three can be changed while it runs. The methods of
// [Organization] make the edits that a person makes in LeadGrid's own pages: they fire the webhooks that
// LeadGrid would, and may do what the API refuses (unknown statuses, removing a dossier for good, editing
// a note). [Organization.Snapshot] is the truth to compare a mirror with.
//
// It shares no code with the client in leadgridapi, so that each can be tested with the other.
//
// # Assumptions
//
// Neither the contract nor its list of gaps settles these; the stand-in does the following:
//   - creates answer 201, everything else 200; removing a contact or a link answers {"data": {"id", "deleted": true}};
//   - unknown keys in a request body are ignored; type and flow_id cannot be changed, and the sales-only fields
//     (contact_person, deal_size, deal_currency) are refused on a candidate, all with 400 invalid_body;
//   - a filter value that is not documented, or a page below 1, is 400 invalid_body;
//   - several kind filters mean "any of them"; search is a case-insensitive substring;
//   - a dossier created with contact_id is linked to that contact as its primary one;
//   - linking a contact that is linked already replaces the link's role and is_primary;
//   - a PATCH that changes nothing fires nothing and leaves updated_at alone;
//   - a CV that is too big or no PDF is 400 invalid_body.
package leadgridtest
