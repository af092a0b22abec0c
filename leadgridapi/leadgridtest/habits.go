package leadgridtest

import (
	"cmp"
	"time"
)

// Habits say how this LeadGrid behaves where the contract is silent. The zero value is what the contract
// says or, where it says nothing, what is most likely. Each field answers one row of the gaps in the
// contract; the tags name what it may hold (the first value is what an empty one means) and explain it.
type Habits struct {
	IDs string `values:"uuid short awkward" help:"shape of the ids made from now on; awkward ones need escaping in a path"`

	HideArchived bool     `help:"leave archived dossiers out of the list unless status=archived asks for them"`
	Order        string   `values:"oldest newest updated updated-oldest random unstable" help:"order of the lists whose order is not documented: by creation, by last change (latest or longest ago first), shuffled once, or anew for each request"`
	PastEnd      string   `values:"empty not-found repeat" help:"what a page past the end gives: no rows, 404, or the last page again"`
	PerPage      string   `values:"clamped fixed refused" help:"a per_page above the maximum is lowered to it, ignored like any per_page, or refused with 400"`
	MaxPerPage   int      `help:"the largest page; 0 means the documented 100"`
	MetaPerPage  string   `values:"served asked" help:"meta.per_page: the size that was served, or what was asked for, served or not"`
	SubLists     string   `values:"paged whole repeated stuck" help:"notes and links: in pages; all on page 1 and nothing after; all on every page; page ignored, so that each page is the first"`
	MetaTotal    string   `values:"exact drifting missing none" help:"meta.total: right, a few off, absent, or no meta at all"`
	ListOmits    []string `help:"keys, like dossiers.intake_notes, that rows of a list do not carry"`
	Omits        []string `help:"keys, like dossiers.updated_at, that no answer and no webhook carries"`
	WriteOmits   []string `help:"keys that the answer to a write does not carry"`
	OmitNulls    bool     `help:"leave null fields out of every answer"`

	PatchNull           string `values:"honoured ignored refused" help:"null in a PATCH, but for assigned_to: clears the field, does nothing, or is 400"`
	CreateMakesContact  bool   `help:"a dossier created without contact_id makes or finds a contact and links it"`
	NewCVPath           bool   `help:"a new CV gets a new cv_url instead of replacing the file under the old one"`
	LeavesFailedCreates bool   `help:"a multipart create whose upload fails (see upload-fails) leaves the dossier behind"`
	EmptyDeletes        bool   `help:"DELETE answers 204 without a body"`

	RetryAfter    string `values:"seconds date none rubbish huge" help:"the Retry-After of a 429; huge is two hours and more"`
	RateHeaders   string `values:"exact absent wrong rubbish" help:"X-RateLimit-Limit and -Remaining: right, absent, ten times too generous, or no numbers"`
	PlanForbidden bool   `help:"a missing plan is told as 403 forbidden instead of 402 plan_required"`
	Redirect      string `values:"none 301 302 307 308" help:"answer every request with a redirect to the www address, where it would be served"`

	WebhookData    string        `values:"whole ids nested" help:"a webhook's data: the object, only its ids, or the object under dossier or note"`
	AnonymousNotes bool          `help:"note.created does not say which dossier"`
	Redelivery     string        `values:"signed-anew new-id verbatim never" help:"a webhook's retry: same id with a new signature, a new id, the very same request, or no retry"`
	UpdatedOn      []string      `values:"field stage restore cv archive link note" help:"which changes fire dossier.updated; empty means field,stage,restore,cv"`
	UnknownEvents  bool          `help:"also send events of types the contract does not name"`
	UnknownFields  bool          `help:"add fields the contract does not name to every object"`
	Timestamps     string        `values:"millis seconds micros nanos offset postgres mixed" help:"how times are written; mixed writes the same instant differently from answer to answer"`
	ReplicaLag     time.Duration `help:"serve reads from a replica that is up to this far behind"`
	ReplicaShare   float64       `help:"the share of reads the replica serves; 0 means all, once replica-lag is set"`
}

// Faults are what goes wrong, each a probability from 0 to 1 of a request, an upload or a webhook. What
// happens follows from the seed, the request and how often it was sent before, so that it does not depend on
// how other requests are interleaved with it.
type Faults struct {
	RateLimited float64 `help:"429 although the limit is not reached"`
	ErrorBefore float64 `help:"500 before anything was done"`
	ErrorAfter  float64 `help:"500 after the request was executed"`
	BadGateway  float64 `help:"502 with an HTML page, nothing done"`
	HangBefore  float64 `help:"no answer, nothing done"`
	HangAfter   float64 `help:"no answer after the request was executed"`
	ResetBefore float64 `help:"connection reset, nothing done"`
	ResetAfter  float64 `help:"connection reset after the request was executed"`
	Truncated   float64 `help:"executed, but only a part of the answer arrives"`
	Slow        float64 `help:"the answer takes up to slow-for longer"`
	UploadFails float64 `help:"storing a CV fails with 500; a multipart create is rolled back"`

	WebhookDropped   float64 `help:"an event is never sent"`
	WebhookDoubled   float64 `help:"an event is sent twice"`
	WebhookReordered float64 `help:"an event is overtaken by later ones"`
	WebhookDelayed   float64 `help:"an event is sent up to webhook-delay later"`

	HangFor      time.Duration `help:"how long a hanging request is held before it is dropped; 0 means a minute"`
	SlowFor      time.Duration `help:"the longest wait of a slow answer; 0 means 2s"`
	WebhookDelay time.Duration `help:"the longest delay of an event; 0 means 30s"`
}

// Limits are how much this LeadGrid allows, and how it delivers webhooks.
type Limits struct {
	Requests int           `help:"requests a key may send in one window; 0 means a million"`
	Window   time.Duration `help:"length of the rate limit's fixed window; 0 means a minute"`

	WebhookAttempts    int           `help:"how often an event is tried in all; 0 means 5"`
	WebhookBackoff     time.Duration `help:"wait before the first retry, doubled for each further one; 0 means 1s"`
	WebhookTimeout     time.Duration `help:"how long the receiver has to answer; 0 means 10s"`
	WebhookConcurrency int           `help:"events under way at once; 0 means 1, which keeps their order"`
}

// ThinRows is a ListOmits with which lists carry what the reference's examples carry, and no more.
var ThinRows = []string{
	"dossiers.organization_id", "dossiers.flow_id", "dossiers.updated_at", "dossiers.city", "dossiers.phone",
	"dossiers.assigned_to", "dossiers.intake_notes", "dossiers.contact_id", "dossiers.contact_person",
	"contacts.linkedin_url", "contacts.notes", "contacts.dossier_count",
}

func (l Limits) requests() int { return cmp.Or(l.Requests, 1_000_000) }

func (l Limits) window() time.Duration { return cmp.Or(l.Window, time.Minute) }
