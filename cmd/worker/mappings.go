package main

import (
	"context"
	"fmt"

	"github.com/leadgrid-sync/leadgrid-sync/mappings"
)

func (p *program) printMapping(context.Context, []string) error {
	_, err := fmt.Fprint(p.out, mappings.DefaultYAML())
	return err
}
