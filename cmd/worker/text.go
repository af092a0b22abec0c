package main

import (
	"io"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// newGrid is a table without lines around it.
func newGrid(out io.Writer, headers ...any) table.Writer {
	grid := table.NewWriter()
	grid.SetOutputMirror(out)
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "   "
	style.Format.Header = text.FormatDefault
	grid.SetStyle(style)
	if len(headers) > 0 {
		grid.AppendHeader(headers)
		grid.SetColumnConfigs(numbers(2, 3))
	}
	grid.SuppressTrailingSpaces()
	return grid
}

func numbers(columns ...int) (configs []table.ColumnConfig) {
	for _, column := range columns {
		configs = append(configs, table.ColumnConfig{Number: column, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	return configs
}

// number writes a count with commas.
func number[T int | int64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
