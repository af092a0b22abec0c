package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// config holds what the flags and the environment set.
type config struct {
	listen        string
	key           string
	scopes        []string
	seed          uint64
	size          leadgridtest.Size
	live          float64
	webhookURL    string
	webhookSecret string
	quiet         bool
	settings      leadgridtest.Settings
}

const intro = `A stand-in LeadGrid: the whole API with made-up data, signed webhooks, rate limits and faults.

  sandbox --dossiers 1000 --contacts 2000 --notes 5000 --live 2 \
          --webhook-url http://localhost:8080/webhooks/leadgrid --webhook-secret demo

Every flag may instead be an environment variable (--list-omits is SANDBOX_LIST_OMITS), or a file named by one
(SANDBOX_WEBHOOK_SECRET_FILE). A switch may also be written -s name=value, as often as wanted.
`

// configure reads the flags, and the environment for those that are not given.
func configure(args []string, env func(string) (string, bool), out io.Writer) (*config, error) {
	c := &config{}
	server := pflag.NewFlagSet("server", pflag.ContinueOnError)
	server.StringVar(&c.listen, "listen", "127.0.0.1:8090", "address to listen on")
	server.StringVar(&c.key, "key", "lg_live_demo", "the API key")
	server.StringSliceVar(&c.scopes, "scopes", leadgridtest.Scopes, "what the key may do")
	server.BoolVarP(&c.quiet, "quiet", "q", false, "no log line for each request")
	server.StringVar(&c.webhookURL, "webhook-url", "", "where webhooks go; none without it")
	server.StringVar(&c.webhookSecret, "webhook-secret", "", "what webhooks are signed with")
	sets := server.StringArrayP("set", "s", nil, "a switch below, as name=value")

	data := pflag.NewFlagSet("data", pflag.ContinueOnError)
	data.Uint64Var(&c.seed, "seed", 1, "drives ids, data, edits and faults")
	data.IntVar(&c.size.Dossiers, "dossiers", 1000, "dossiers to make up")
	data.IntVar(&c.size.Contacts, "contacts", 2000, "contacts to make up")
	data.IntVar(&c.size.Links, "links", 1500, "links to make up")
	data.IntVar(&c.size.Notes, "notes", 5000, "notes to make up")
	data.IntVar(&c.size.Flows, "flows", 0, "flows beyond the first four")
	data.Float64Var(&c.size.Odd, "odd", 0, "share of dossiers and contacts that hold what nobody expects")
	data.Float64Var(&c.live, "live", 0, "edits a second, as people at work would make them")

	groups := []*pflag.FlagSet{server, data}
	for _, name := range []string{"habits", "faults", "limits"} {
		groups = append(groups, switches(name, &c.settings))
	}
	all := pflag.NewFlagSet("sandbox", pflag.ContinueOnError)
	all.SortFlags = false
	for _, group := range groups {
		group.SortFlags = false
		all.AddFlagSet(group)
	}
	all.Usage = func() { usage(out, groups) }
	if err := all.Parse(args); err != nil {
		return nil, err
	}
	if extra := all.Args(); len(extra) > 0 {
		return nil, fmt.Errorf("%q is not a flag; see --help", extra[0])
	}
	problems := fromEnvironment(all, env)
	for _, set := range *sets {
		name, value, ok := strings.Cut(set, "=")
		if !ok {
			problems = append(problems, fmt.Errorf("--set wants name=value, not %q", set))
			continue
		}
		problems = append(problems, c.settings.Set(name, value))
	}
	return c, errors.Join(append(problems, c.check())...)
}

// fromEnvironment sets the flags that were not given.
func fromEnvironment(all *pflag.FlagSet, env func(string) (string, bool)) (problems []error) {
	all.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			return
		}
		name := "SANDBOX_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := env(name)
		if file, named := env(name + "_FILE"); named && !ok {
			content, err := os.ReadFile(file)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s_FILE: %w", name, err))
				return
			}
			value, ok = strings.TrimRight(string(content), "\r\n"), true
		}
		if !ok {
			return
		}
		if err := f.Value.Set(value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
	})
	return problems
}

func (c *config) check() error {
	var problems []error
	for _, scope := range c.scopes {
		if !slices.Contains(leadgridtest.Scopes, scope) {
			problems = append(problems, fmt.Errorf("scopes: there is no %q; there are %s", scope, strings.Join(leadgridtest.Scopes, ", ")))
		}
	}
	if c.webhookURL != "" && c.webhookSecret == "" {
		problems = append(problems, errors.New("webhook-url needs a webhook-secret"))
	}
	for _, n := range []int{c.size.Dossiers, c.size.Contacts, c.size.Links, c.size.Notes, c.size.Flows} {
		if n < 0 {
			problems = append(problems, errors.New("the amount of data cannot be negative"))
			break
		}
	}
	return errors.Join(problems...)
}

// switches makes a flag of each switch in a group.
func switches(group string, settings *leadgridtest.Settings) *pflag.FlagSet {
	flags := pflag.NewFlagSet(group, pflag.ContinueOnError)
	for _, s := range leadgridtest.Switches() {
		if s.Group != group {
			continue
		}
		help := s.Help
		if len(s.Values) > 0 {
			help += " (" + strings.Join(s.Values, ", ") + ")"
		}
		f := flags.VarPF(&value{s, settings, ""}, s.Name, "", help)
		if s.Kind == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	return flags
}

// value is a switch as a flag.
type value struct {
	leadgridtest.Switch
	settings *leadgridtest.Settings
	text     string
}

func (v *value) String() string { return v.text }

func (v *value) Type() string {
	switch v.Kind {
	case "bool":
		return ""
	case "one of":
		return "name"
	case "any of", "list":
		return "names"
	}
	return v.Kind
}

func (v *value) Set(text string) error {
	v.text = text
	return v.settings.Set(v.Name, text)
}

func usage(out io.Writer, groups []*pflag.FlagSet) {
	fmt.Fprint(out, intro)
	for i, title := range []string{
		"Server", "Data", "Habits: how LeadGrid behaves where its contract is silent (first of a list: the default)",
		"Faults: what goes wrong, as probabilities from 0 to 1", "Limits",
	} {
		fmt.Fprintf(out, "\n%s\n%s", title, groups[i].FlagUsagesWrapped(120))
	}
}

// announce prints what was made and how to use it.
func (c *config) announce(out io.Writer, address net.Addr, took time.Duration) {
	base := "http://" + address.String() + "/api/v1"
	fmt.Fprintf(out, `LeadGrid sandbox with %d dossiers, %d contacts and %d notes, made in %s.

  curl -H 'Authorization: Bearer %s' '%s/dossiers?per_page=2'

Point the worker at it:

  LEADGRID_BASE_URL=%s LEADGRID_API_KEY=%s worker run

`, c.size.Dossiers, c.size.Contacts, c.size.Notes, took.Round(time.Millisecond), c.key, base, base, c.key)
	if c.webhookURL != "" {
		fmt.Fprintf(out, "Webhooks go to %s.\n", c.webhookURL)
	} else {
		fmt.Fprintln(out, "No webhooks: give --webhook-url and --webhook-secret for them.")
	}
}
