package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/leadgrid-sync/leadgrid-sync/sync/mirror"
)

func (p *program) eraseCommand() *cobra.Command {
	var dossiers []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "erase",
		Short: "Remove a person for good",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	contact := &cobra.Command{
		Use:   "contact ID",
		Short: "Remove a contact's personal data from every table, payload, history and queue argument",
		Long: "Remove a contact's personal data from every table, payload, history and queue argument, and keep it out from\n" +
			"now on. Ids and times stay. In LeadGrid nothing changes: delete the contact there as well.\n" +
			"Dossiers about the same person are listed; --with-dossiers erases them too, notes included, and\n" +
			"--with-dossiers=ID,ID only those.",
		Args: oneID("the contact"),
		RunE: does(func(ctx context.Context, args []string) error {
			erasure := mirror.Erasure{Contacts: args, Reason: mirror.ErasedByCommand, WithDossiers: len(dossiers) > 0}
			if len(dossiers) > 0 && dossiers[0] != "all" {
				erasure.Dossiers = dossiers
			}
			return p.erase(ctx, erasure, asJSON)
		}),
	}
	contact.Flags().StringSliceVar(&dossiers, "with-dossiers", nil, "erase the dossiers about the person as well, or only those named")
	contact.Flags().Lookup("with-dossiers").NoOptDefVal = "all"
	contact.Flags().BoolVar(&asJSON, "json", false, "print the certificate as JSON")
	cmd.AddCommand(contact)
	return cmd
}

func (p *program) erase(ctx context.Context, erasure mirror.Erasure, asJSON bool) error {
	var config databaseConfig
	pool, err := open(ctx, &config, "leadgrid-erase")
	if err != nil {
		return err
	}
	defer pool.Close()
	mapping, err := config.Mappings.Load()
	if err != nil {
		return err
	}
	var certificate mirror.Certificate
	m := mirror.New(pool, mirror.Options{Mapping: mapping, QueueSchema: config.QueueSchema})
	err = m.InTx(ctx, func(tx pgx.Tx) error {
		certificate, err = m.Erase(ctx, tx, erasure)
		return err
	})
	if err != nil {
		return err
	}
	if asJSON {
		return p.printJSON(certificate)
	}
	p.printCertificate(certificate)
	return nil
}

func (p *program) printCertificate(c mirror.Certificate) {
	fmt.Fprintf(p.out, "contact %s was erased at %s, and will not come back\n\n", strings.Join(c.Contacts, ", "), c.ErasedAt.UTC().Format(time.RFC3339))
	if len(c.Removed) == 0 {
		fmt.Fprintln(p.out, "nothing about them was found: if that is a surprise, look whether the id is right")
	} else {
		grid := newGrid(p.out, "table", "rows", "what left them")
		grid.SetColumnConfigs(numbers(2))
		for _, removed := range c.Removed {
			grid.AppendRow([]any{removed.Table, number(removed.Rows), removed.What})
		}
		grid.Render()
	}
	kept := 0
	for i, dossier := range c.Dossiers {
		if i == 0 {
			fmt.Fprintln(p.out, "\ndossiers about the same person:")
		}
		fate := "kept"
		if dossier.Erased {
			fate = "erased"
		} else {
			kept++
		}
		fmt.Fprintf(p.out, "  %s   %s   %s\n", dossier.ID, fate, strings.Join(dossier.Why, ", "))
	}
	if kept > 0 {
		fmt.Fprintln(p.out, "decide about those that were kept, and run this again with --with-dossiers or --with-dossiers=ID,ID")
	}
	if c.UnderWay > 0 {
		fmt.Fprintf(p.out, "\n%d write-back commands about them are being sent right now: what they hold goes when they end\n", c.UnderWay)
	}
}
