package main

import (
	"image/color"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// chart draws how far each figure goes towards its target, the target being the line at 1.
func chart(figures []figure, path string) error {
	p := plot.New()
	p.Title.Text = "Measured against the target (1 = reached, 2 = twice as good)"
	p.BackgroundColor = color.White
	p.Y.Tick.Label.Font.Variant, p.Y.Tick.Label.Font.Size = "Sans", vg.Points(9)
	p.X.Tick.Label.Font.Variant, p.Title.TextStyle.Font.Variant = "Sans", "Sans"
	p.X.Min, p.X.Max = 0, 3
	var bars plotter.Values
	var names []string
	for i := len(figures) - 1; i >= 0; i-- { // the first on top
		f := figures[i]
		bars = append(bars, min(f.share(), p.X.Max))
		// What draws the text may have a wider font than what places it: the blanks are room for that.
		names = append(names, f.what+": "+f.show(f.median)+strings.Repeat("\u00a0", 24))
	}
	drawn, err := plotter.NewBarChart(bars, vg.Points(12))
	if err != nil {
		return err
	}
	drawn.Horizontal, drawn.Color, drawn.LineStyle.Width = true, color.RGBA{R: 0x33, G: 0x67, B: 0x91, A: 0xff}, 0
	line, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(figures)) - 0.5}})
	if err != nil {
		return err
	}
	line.Color, line.Width = color.RGBA{R: 0xc0, A: 0xff}, vg.Points(1.5)
	p.Add(drawn, line)
	p.NominalY(names...)
	return p.Save(11*vg.Inch, vg.Length(len(figures))*0.32*vg.Inch+1*vg.Inch, path)
}
