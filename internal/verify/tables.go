package verify

// table is a mirrored table as LeadGrid documents it. It does not ask the mapping, on purpose: that is part of what is verified.
type table struct {
	name   string
	key    []string // the columns that identify a row
	parent string   // the column that names what its rows belong to
	fields []string // that LeadGrid documents
}

var (
	flows = &table{
		name: "flows", key: []string{"id"},
		fields: []string{"id", "name", "type", "is_default", "stages"},
	}
	stages = &table{
		name: "stages", key: []string{"id"}, parent: "flow_id",
		fields: []string{"id", "flow_id", "name", "position", "deadline_days", "win_probability", "color"},
	}
	dossiers = &table{
		name: "dossiers", key: []string{"id"},
		fields: []string{
			"id", "organization_id", "type", "name", "email", "phone", "city", "company", "role", "contact_person",
			"deal_size", "deal_currency", "status", "flow_id", "current_stage_id", "assigned_to", "intake_notes", "cv_url",
			"contact_id", "created_at", "updated_at",
		},
	}
	contacts = &table{
		name: "contacts", key: []string{"id"},
		fields: []string{
			"id", "full_name", "email", "phone", "linkedin_url", "company", "role", "city", "kind", "notes", "dossier_count",
			"created_at",
		},
	}
	links = &table{
		name: "dossier_contacts", key: []string{"dossier_id", "contact_id"}, parent: "dossier_id",
		fields: []string{"dossier_id", "contact_id", "full_name", "email", "company", "role_on_dossier", "is_primary"},
	}
	notes = &table{
		name: "notes", key: []string{"id"}, parent: "dossier_id",
		fields: []string{"id", "dossier_id", "content", "is_internal", "created_at"},
	}
)

// tables lists them in the order of a report.
var tables = []*table{flows, stages, dossiers, contacts, links, notes}
