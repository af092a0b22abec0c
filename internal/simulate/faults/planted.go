package main

// defect is a mistake that somebody could make.
type defect struct {
	name string
	what string
	// seeds caught it before, and are tried first.
	seeds []int
	edits []edit
}

// edit makes the mistake in the source: from is the correct code, which must be there exactly once, and to takes its
// place, with planted("name") where the defect makes a difference.
type edit struct{ file, from, to string }

var defects = []defect{
	{
		"naive-paging", "lists are paged over once, without overlap and without counting", []int{9, 64},
		[]edit{
			{"sync/sweep/walk.go", `	return windowAt(k.Next - overlap - k.Back)
`, `	if planted("naive-paging") {
		return window{Page: k.Next/maxPerPage + 1, PerPage: maxPerPage}
	}
	return windowAt(k.Next - overlap - k.Back)
`},
			{"sync/sweep/walk.go", `	case !k.shares(p):
`, `	case !planted("naive-paging") && !k.shares(p):
`},
			{"sync/sweep/walk.go", `	if !k.Loose && agrees {`, `	if planted("naive-paging") || !k.Loose && agrees {`},
		},
	},
	{
		"unique-job", "one unique job a dossier: what comes in while it waits or runs, or after it, is taken for done", []int{5},
		[]edit{{"sync/events/process.go", `		return last.Number > since, err
`, `		if planted("unique-job") {
			return last.Number > 0, err
		}
		return last.Number > since, err
`}, {"sync/events/process.go", `		return !last.BeganAt.Before(settled), err
`, `		if planted("unique-job") {
			return last.Number > 0, err
		}
		return !last.BeganAt.Before(settled), err
`}},
	},
	{
		"first-404", "the first 404 marks a row as deleted", []int{2},
		[]edit{{"sync/observe/observe.go", `		result.Confirmed, err = o.mirror.NotFound(ctx, tx, kind, id, at)
`, `		if planted("first-404") {
			for _, of := range []string{string(kind) + " SET _deleted_at = now() WHERE id = $1", "notes SET _deleted_at = now() WHERE dossier_id = $1",
				"dossier_contacts SET _deleted_at = now() WHERE $1 IN (dossier_id, contact_id)", "stages SET _deleted_at = now() WHERE flow_id = $1"} {
				if _, err := tx.Exec(ctx, "UPDATE "+of+" AND _deleted_at IS NULL", id); err != nil {
					return err
				}
			}
		}
		result.Confirmed, err = o.mirror.NotFound(ctx, tx, kind, id, at)
`}},
	},
	{
		"early-ack", "a webhook is acked before its transaction has ended", []int{1},
		[]edit{{"sync/events/intake.go", `	select {
	case s := <-a.settled:
`, `	if planted("early-ack") {
		return Stored{ID: a.id, Type: a.eventType}, nil
	}
	select {
	case s := <-a.settled:
`}},
	},
	{
		"absence-deletes", "what a sweep did not see is marked as deleted, also where the sweep was unclean", []int{71},
		[]edit{{"sync/mirror/tombstone.go", `	if err != nil {
		return fmt.Errorf("nominate %s: %w", kind, err)
	}
`, `	if planted("absence-deletes") && err == nil {
		_, err = tx.Exec(ctx, "UPDATE "+t.name+" t SET _deleted_at = now() FROM sync_doubts d WHERE d.kind = $1 AND d.id = t.id AND d.reason <> 'older'", kind)
		for _, of := range []string{"notes c SET _deleted_at = now() FROM dossiers p WHERE p.id = c.dossier_id", "stages c SET _deleted_at = now() FROM flows p WHERE p.id = c.flow_id",
			"dossier_contacts c SET _deleted_at = now() FROM dossiers p WHERE p.id = c.dossier_id", "dossier_contacts c SET _deleted_at = now() FROM contacts p WHERE p.id = c.contact_id"} {
			if err == nil {
				_, err = tx.Exec(ctx, "UPDATE "+of+" AND p._deleted_at IS NOT NULL AND c._deleted_at IS NULL")
			}
		}
	}
	if err != nil {
		return fmt.Errorf("nominate %s: %w", kind, err)
	}
`}},
	},
	{
		"no-retry-after", "a 429 is taken for an error like any other", []int{1},
		[]edit{{"sync/budget/budget.go", `	b.purse.observe(o)
`, `	if planted("no-retry-after") && o.Status == 429 {
		o.Status, o.RetryAfter = 500, 0
	}
	b.purse.observe(o)
`}},
	},
	{
		"starves", "sweeps get nothing of an announced limit", []int{3},
		[]edit{{"sync/budget/state.go", `		own, rate := &s.Own[c], pace*s.part(c)
`, `		if planted("starves") && c == Sweeps && s.Limit > 0 {
			answer.until[c] = now.Add(time.Second)
			continue
		}
		own, rate := &s.Own[c], pace*s.part(c)
`}},
	},
	{
		"thin-clears", "a field that a list leaves out is cleared", []int{12},
		[]edit{
			{"sync/sweep/ahead.go", `Whole: !thin,`, `Whole: !thin || planted("thin-clears"),`},
			{"sync/mirror/shape.go", `{ _, ok := s[key]; return ok }`, `{ _, ok := s[key]; return ok || planted("thin-clears") }`},
		},
	},
	{
		"lag-believed", "what events point to is not read again after the lag of replicas", []int{17},
		[]edit{{"sync/events/process.go", `	settled := receivedAt.Add(p.mirror.Lag())
`, `	if planted("lag-believed") {
		return Report{}, nil
	}
	settled := receivedAt.Add(p.mirror.Lag())
`}},
	},
	{
		"float-amounts", "amounts pass through a float64", []int{13},
		[]edit{{"mappings/types.go", `	if !isNumber(s) || !fitsNumeric(s) {
		return nil
	}
`, `	if !isNumber(s) || !fitsNumeric(s) {
		return nil
	}
	if f, err := strconv.ParseFloat(s, 64); planted("float-amounts") && err == nil {
		s = strconv.FormatFloat(f, 'f', -1, 64)
	}
`}},
	},
	{
		"unknown-dropped", "fields without a column are not kept", []int{2},
		[]edit{{"sync/mirror/apply.go", `		if t.mapping.Strict() {`, `		if planted("unknown-dropped") {
			for name := range s.object() {
				if !t.mapping.Documented(name) {
					delete(s.told, name)
				}
			}
			s.body, object = encode(s.told), fieldsOf(s.told)
		}
		if t.mapping.Strict() {`}},
	},
	{
		"first-page", "only the first page of a dossier's notes is read", []int{62},
		[]edit{{"sync/observe/complete.go", `		if meta.Ends(len(objects), (l.from-1)*leadgridapi.MaxPerPage+len(read.seen)) {`, `		if planted("first-page") || meta.Ends(len(objects), (l.from-1)*leadgridapi.MaxPerPage+len(read.seen)) {`}},
	},
	{
		"lost-stage", "some stage_changed events do not reach the history", []int{9, 13},
		[]edit{{"sync/events/process.go", `	if len(entered) == 0 {`, `	if planted("lost-stage") && len(entered) > 1 {
		entered = entered[:1]
	}
	if len(entered) == 0 {`}},
	},
	{
		"any-organization", "whatever the key reads is taken for the mirrored organization", []int{5},
		[]edit{{"sync/mirror/apply.go", `	case read.Proven, s.parents[`, `	case planted("any-organization"), read.Proven, s.parents[`}},
	},
	{
		"equal-means-same", "an equal updated_at is taken for an unchanged dossier", []int{16},
		[]edit{{"sync/mirror/apply.go", `	if row.exists && !row.deleted && isOlder(told, row.known)`, `	if at := text(told, "updated_at"); planted("equal-means-same") && at != "" && at == text(row.known, "updated_at") {
		applied.Unchanged++
		return
	}
	if row.exists && !row.deleted && isOlder(told, row.known)`}},
	},
	{
		"never-cleared", "a field that an answer leaves out keeps its value, even where that means null", []int{10},
		[]edit{{"sync/mirror/object.go", `!ok && whole && shape.has(key) {`, `!ok && whole && shape.has(key) && !planted("never-cleared") {`}},
	},
	{
		"orphans", "the notes and links of a dossier that is gone stay", []int{1, 2},
		[]edit{{"sync/mirror/tombstone.go", `	for _, child := range children[kind] {
		tag, err := tx.Exec`, `	for _, child := range children[kind] {
		if planted("orphans") {
			break
		}
		tag, err := tx.Exec`}},
	},
	{
		"always-written", "a row is written even if nothing about it changed", []int{2},
		[]edit{
			{"sync/mirror/load.go", `same := !row.deleted &&`, `same := !planted("always-written") && !row.deleted &&`},
			{"sync/mirror/apply.go", `case row.exists && !row.deleted && read.Whole &&`, `case !planted("always-written") && row.exists && !row.deleted && read.Whole &&`},
			{"sync/mirror/apply.go", `	if row.exists && !row.deleted && hash == row.hash {`, `	if row.exists && !row.deleted && hash == row.hash && !planted("always-written") {`},
		},
	},
	{
		"no-guard", "a read that began earlier overwrites what a later one told", []int{1, 2},
		[]edit{{"sync/mirror/apply.go", `case row.later >= read.Number, !row.isNew &&`,
			`case !planted("no-guard") && row.later >= read.Number, !planted("no-guard") && !row.isNew &&`}},
	},
}
