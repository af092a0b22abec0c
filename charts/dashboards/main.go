// Command dashboards writes the Grafana dashboards into the chart. Run it in charts/: go run ./dashboards
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	for name, dashboard := range Dashboards() {
		content, err := dashboard.JSON()
		if err == nil {
			err = os.WriteFile(filepath.Join("leadgrid-sync", "dashboards", name+".json"), content, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "dashboards:", err)
			os.Exit(1)
		}
	}
}

// Dashboards are all dashboards, by the name of their file.
func Dashboards() map[string]Dashboard {
	return map[string]Dashboard{"mirror": mirror, "receiver-and-queue": receiverAndQueue, "api-and-write-back": apiAndWriteBack}
}
