// Package settings reads the programs' settings from the environment, and reports everything that is wrong or missing at
// once, in plain words, before anything starts.
//
// A program declares its settings as a struct, made of this package's groups (groups.go) and of fields of its own. Fields
// have envconfig's tags (envconfig, default, required) and desc, a short description for people. Instead of any setting X,
// X_FILE may name a file that holds its value. An empty value counts as none.
package settings

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// Error lists everything that is wrong with the settings. It holds no value of a secret.
type Error struct {
	Problems []string // one sentence each, which names the setting and says what to do
}

func (e *Error) Error() string {
	return "the settings are not right:\n  " + strings.Join(e.Problems, "\n  ")
}

// Checker is a group of settings with rules beyond the types of its fields.
type Checker interface {
	// Problems returns a sentence for each broken rule. It must not quote secrets.
	Problems() []string
}

// Load fills the struct that spec points to. A value that the struct already holds is the default, and wins over the one in
// the field's tag. The error is an [*Error].
func Load(spec any) error {
	var problems []string
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	var checkers []Checker
	var unread []string
	eachGroup(reflect.ValueOf(spec).Elem(), func(group reflect.Value, fields []field) {
		for _, f := range fields {
			if err := f.load(); err != nil {
				report("%v", err)
				unread = append(unread, f.Name)
			}
		}
		if checker, ok := reflect.TypeAssert[Checker](group.Addr()); ok {
			checkers = append(checkers, checker)
		}
	})
	for _, checker := range checkers {
		for _, problem := range checker.Problems() {
			// A problem with a setting that could not be read only repeats that.
			about := func(name string) bool { return strings.Contains(problem, name) }
			if !slices.ContainsFunc(unread, about) && !slices.Contains(problems, problem) { // an embedded group's method is also its struct's
				report("%s", problem)
			}
		}
	}
	for _, problem := range unknown(os.Environ(), append(List(spec), List(new(everything))...)) {
		report("%s", problem)
	}
	if len(problems) > 0 {
		return &Error{Problems: problems}
	}
	return nil
}

// Setting describes one setting.
type Setting struct {
	Name        string
	Default     string
	Required    bool
	Secret      bool
	Description string
}

// List describes the settings of the struct that spec points to, for documentation.
func List(spec any) []Setting {
	var settings []Setting
	eachGroup(reflect.ValueOf(spec).Elem(), func(_ reflect.Value, fields []field) {
		for _, f := range fields {
			settings = append(settings, f.Setting)
		}
	})
	return settings
}

// fileSuffix, after a setting's name, names the variable that holds the path of a file with its value.
const fileSuffix = "_FILE"

// field is a setting and the struct field that its value goes to.
type field struct {
	Setting
	value reflect.Value
}

// eachGroup visits a struct and the structs inside it, inner ones first.
func eachGroup(group reflect.Value, visit func(group reflect.Value, fields []field)) {
	var fields []field
	for declared, value := range group.Fields() {
		if !declared.IsExported() {
			continue
		}
		name, named := declared.Tag.Lookup("envconfig")
		switch {
		case named:
			f := field{value: value, Setting: Setting{
				Name: name, Default: declared.Tag.Get("default"), Required: declared.Tag.Get("required") == "true",
				Secret: value.Type() == reflect.TypeFor[Secret](), Description: declared.Tag.Get("desc"),
			}}
			if !f.Secret && !value.IsZero() {
				f.Default = fmt.Sprint(value)
			}
			fields = append(fields, f)
		case value.Kind() == reflect.Struct:
			eachGroup(value, visit)
		}
	}
	visit(group, fields)
}

func (f field) load() error {
	text, path := os.Getenv(f.Name), os.Getenv(f.Name+fileSuffix)
	if path != "" {
		if text != "" {
			return fmt.Errorf("%s and %s are both set: keep one of them", f.Name, f.Name+fileSuffix)
		}
		var err error
		if text, err = readFile(path); err != nil {
			return fmt.Errorf("%s: %w", f.Name+fileSuffix, err)
		}
	}
	if trimmed := strings.TrimSpace(text); !f.Secret || trimmed == "" {
		text = trimmed
	}
	if f.value.Kind() == reflect.Slice {
		text = strings.Join(splitList(text), ",")
	}
	if text == "" && f.value.IsZero() {
		text = f.Default
	}
	switch {
	case text == "" && f.Required && f.value.IsZero():
		return fmt.Errorf("%s is missing: set it, or set %s to a file that holds it (%s)", f.Name, f.Name+fileSuffix, f.Description)
	case text == "":
		return nil
	case f.Secret:
		secret := NewSecret(strings.TrimRight(text, "\r\n"))
		if path != "" {
			secret = newSecretFile(f.Name, path, secret.Value())
		}
		f.value.Set(reflect.ValueOf(secret))
		return nil
	}
	return f.decode(text)
}

// handover is the variable through which a value reaches envconfig, which only reads the environment.
const handover = "SETTINGS_HANDOVER"

// decode lets envconfig turn the text into the field's type, one field at a time because envconfig stops at the first error.
func (f field) decode(text string) error {
	alone := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: "Value", Type: f.value.Type(), Tag: `envconfig:"` + handover + `"`,
	}}))
	if err := os.Setenv(handover, text); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	defer os.Unsetenv(handover)
	if err := envconfig.Process("", alone.Interface()); err != nil {
		return fmt.Errorf("%s: %q %s", f.Name, text, f.inPlainWords())
	}
	f.value.Set(alone.Elem().Field(0))
	return nil
}

// inPlainWords says what is wrong with a value, without naming Go types or functions.
func (f field) inPlainWords() string {
	switch f.value.Interface().(type) {
	case time.Duration:
		return "is not a duration: write a number and a unit, such as 30s, 5m or 24h"
	case Every:
		return "is neither off nor a duration of a minute or more: write a number and a unit, such as 5m or 24h"
	case bool:
		return "is neither true nor false"
	case int, int32, int64, uint, uint32, uint64:
		return "is not a whole number, or too large"
	case float32, float64:
		return "is not a number"
	}
	return "is not understood, expected " + f.Description
}

// splitList cuts a comma-separated list, without the spaces around its items and without empty ones.
func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}
