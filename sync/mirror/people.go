package mirror

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// dossiersAbout lists the dossiers that seem to be about these contacts, except those that are erased already.
func dossiersAbout(ctx context.Context, tx pgx.Tx, contacts []string) ([]DossierAbout, error) {
	rows, err := tx.Query(ctx, `
		WITH people AS (
			SELECT k.id, nullif(lower(c.email), '') AS email, nullif(lower(c.full_name), '') AS name, nullif(c.phone, '') AS phone
			FROM unnest($1::text[]) AS k (id) LEFT JOIN contacts c ON c.id = k.id
		), reasons AS (
			SELECT l.contact_id, l.dossier_id, 'linked' AS why FROM dossier_contacts l WHERE l.contact_id = ANY ($1)
			UNION SELECT k.id, unnest(e.dossiers), 'listed before'
			FROM unnest($1::text[]) AS k (id) JOIN erasures e ON e.token = erasure_token('contacts', k.id)
			UNION SELECT d.contact_id, d.id, 'created for the contact' FROM dossiers d WHERE d.contact_id = ANY ($1)
			UNION SELECT p.id, d.id, 'same e-mail' FROM people p JOIN dossiers d ON lower(d.email) = p.email
			UNION SELECT p.id, d.id, 'same phone' FROM people p JOIN dossiers d ON d.phone = p.phone
			UNION SELECT p.id, d.id, 'same name' FROM people p JOIN dossiers d ON p.name IN (lower(d.name), lower(d.contact_person))
		)
		SELECT r.contact_id, r.dossier_id, array_agg(r.why ORDER BY r.why), d._deleted_at IS NOT NULL, false
		FROM reasons r JOIN dossiers d ON d.id = r.dossier_id AND d._erased_at IS NULL
		GROUP BY r.contact_id, r.dossier_id, d._deleted_at ORDER BY 1, 2`, contacts)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[DossierAbout])
}

// people holds what identifies the people to erase, wherever it stands.
type people struct {
	ids      []string // of contacts
	words    []string // names, addresses, numbers, notes
	dossiers []string // about them
}

func loadPeople(ctx context.Context, tx pgx.Tx, contacts []string) (*people, error) {
	p := &people{ids: contacts}
	err := p.addWords(ctx, tx, `
		SELECT v FROM contacts c, unnest(ARRAY[c.full_name, c.email, c.phone, c.linkedin_url]) AS v WHERE c.id = ANY ($1)
		UNION SELECT v FROM contacts_history c, unnest(ARRAY[c.full_name, c.email, c.phone, c.linkedin_url]) AS v WHERE c.id = ANY ($1)
		UNION SELECT v FROM dossier_contacts l, unnest(ARRAY[l.full_name, l.email]) AS v WHERE l.contact_id = ANY ($1)
		UNION SELECT v FROM dossier_contacts_history l, unnest(ARRAY[l.full_name, l.email]) AS v WHERE l.contact_id = ANY ($1)`, contacts)
	return p, err
}

// addDossiers adds what the dossiers to erase with them say about them.
func (p *people) addDossiers(ctx context.Context, tx pgx.Tx, dossiers []string) error {
	return p.addWords(ctx, tx, `
		SELECT v FROM dossiers d, unnest(ARRAY[d.name, d.email, d.phone]) AS v WHERE d.id = ANY ($1)
		UNION SELECT v FROM dossiers_history d, unnest(ARRAY[d.name, d.email, d.phone]) AS v WHERE d.id = ANY ($1)
		UNION SELECT content FROM notes WHERE dossier_id = ANY ($1)
		UNION SELECT content FROM notes_history WHERE dossier_id = ANY ($1)`, dossiers)
}

func (p *people) addWords(ctx context.Context, tx pgx.Tx, sql string, ids []string) error {
	rows, err := tx.Query(ctx, sql, ids)
	if err != nil {
		return err
	}
	words, err := pgx.CollectRows(rows, pgx.RowTo[*string])
	for _, word := range words {
		// A shorter word occurs everywhere and identifies nobody.
		if word != nil && len([]rune(strings.TrimSpace(*word))) >= 4 {
			p.words = append(p.words, strings.TrimSpace(*word))
		}
	}
	return err
}

// wordsAndIDs returns everything that identifies them.
func (p *people) wordsAndIDs() []string { return slices.Concat(p.words, p.ids) }

// in reports whether a text mentions them, as it is or with JSON's escapes resolved. The text need not be valid JSON.
func (p *people) in(text []byte) bool {
	plain := strings.ToLower(string(text))
	readable := strings.ToLower(unescape(string(text)))
	return slices.ContainsFunc(p.wordsAndIDs(), func(word string) bool {
		word = strings.ToLower(word)
		return strings.Contains(plain, word) || strings.Contains(readable, word)
	})
}

// unescape resolves JSON's escapes wherever they stand, and leaves those that are invalid.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			i++
			continue
		}
		end := i + 2
		if text[i+1] == 'u' {
			end = i + 6
			if strings.HasPrefix(text[min(end, len(text)):], `\u`) {
				end += 6 // perhaps the other half of a pair
			}
		}
		end = min(end, len(text))
		var s string
		if json.Unmarshal([]byte(`"`+text[i:end]+`"`), &s) != nil {
			s, end = text[i:i+2], i+2
		}
		b.WriteString(s)
		i = end
	}
	return b.String()
}
