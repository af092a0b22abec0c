package leadgridtest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Switch describes one field of [Habits], [Faults] or [Limits], so that a program can offer them all by name.
type Switch struct {
	Name   string // hide-archived
	Group  string // habits, faults or limits
	Kind   string // bool, one of, any of, list, probability, number or duration
	Values []string
	Help   string

	group, field int
}

// Settings are the three groups of switches together.
type Settings struct {
	Habits Habits
	Faults Faults
	Limits Limits
}

var switches = describe()

// Switches lists every switch there is.
func Switches() []Switch { return slices.Clone(switches) }

func describe() []Switch {
	var all []Switch
	groups := reflect.TypeFor[Settings]()
	for g := range groups.NumField() {
		group := groups.Field(g)
		for f := range group.Type.NumField() {
			field := group.Type.Field(f)
			s := Switch{
				Name: kebab(field.Name), Group: strings.ToLower(group.Name), Help: field.Tag.Get("help"),
				Values: strings.Fields(field.Tag.Get("values")), group: g, field: f,
			}
			switch reflect.Zero(field.Type).Interface().(type) {
			case bool:
				s.Kind = "bool"
			case string:
				s.Kind = "one of"
			case []string:
				s.Kind = "list"
				if len(s.Values) > 0 {
					s.Kind = "any of"
				}
			case float64:
				s.Kind = "probability"
			case int:
				s.Kind = "number"
			case time.Duration:
				s.Kind = "duration"
			}
			all = append(all, s)
		}
	}
	return all
}

// kebab turns WebhookData into webhook-data and IDs into ids.
func kebab(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) ||
			i+2 < len(runes) && unicode.IsLower(runes[i+1]) && unicode.IsLower(runes[i+2])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Set sets a switch from a text. If the name or value is unknown, the error lists those there are.
func (s *Settings) Set(name, text string) error {
	i := slices.IndexFunc(switches, func(w Switch) bool { return w.Name == name })
	if i < 0 {
		names := make([]string, len(switches))
		for i, w := range switches {
			names[i] = w.Name
		}
		slices.Sort(names)
		return fmt.Errorf("there is no switch %q; there are %s", name, strings.Join(names, ", "))
	}
	w := switches[i]
	value := reflect.ValueOf(s).Elem().Field(w.group).Field(w.field)
	old := reflect.ValueOf(value.Interface())
	if err := parse(value, w.Kind, strings.TrimSpace(text)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := w.check(value); err != nil {
		value.Set(old)
		return err
	}
	return nil
}

func parse(value reflect.Value, kind, text string) error {
	switch kind {
	case "bool":
		v, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		value.SetBool(v)
	case "probability":
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		value.SetFloat(v)
	case "number":
		v, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		value.SetInt(int64(v))
	case "duration":
		v, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 30s", text)
		}
		value.SetInt(int64(v))
	case "list", "any of":
		var list []string
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		value.Set(reflect.ValueOf(list))
	default:
		value.SetString(text)
	}
	return nil
}

// check returns what is wrong with a switch's value, if anything.
func (w Switch) check(value reflect.Value) error {
	unknown := func(text string) error {
		return fmt.Errorf("%s cannot be %q; it is %s %s", w.Name, text, w.Kind, strings.Join(w.Values, ", "))
	}
	switch w.Kind {
	case "one of":
		if text := value.String(); text != "" && !slices.Contains(w.Values, text) {
			return unknown(text)
		}
	case "any of":
		for _, text := range value.Interface().([]string) {
			if !slices.Contains(w.Values, text) {
				return unknown(text)
			}
		}
	case "list":
		for _, text := range value.Interface().([]string) {
			if table, key, ok := strings.Cut(text, "."); !ok || key == "" || !slices.Contains(tables, table) {
				return fmt.Errorf("%s cannot hold %q; it wants keys such as dossiers.city, of %s", w.Name, text, strings.Join(tables, ", "))
			}
		}
	case "probability":
		if p := value.Float(); !(p >= 0 && p <= 1) {
			return fmt.Errorf("%s is a probability from 0 to 1, not %v", w.Name, p)
		}
	case "number", "duration":
		if value.Int() < 0 {
			return fmt.Errorf("%s cannot be negative", w.Name)
		}
	}
	return nil
}

// Validate returns an error that names every switch with an invalid value.
func (s Settings) Validate() error {
	var problems []error
	groups := reflect.ValueOf(s)
	for _, w := range switches {
		problems = append(problems, w.check(groups.Field(w.group).Field(w.field)))
	}
	return errors.Join(problems...)
}
