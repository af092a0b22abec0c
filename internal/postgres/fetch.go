package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const fetchVersion = embeddedpostgres.V17

// fetchFolder is where downloaded programs are kept; for root, where other accounts can reach them.
func fetchFolder() string {
	cache, err := os.UserCacheDir()
	if os.Geteuid() == 0 {
		cache = "/var/cache"
	} else if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "leadgrid-sync")
}

// fetch downloads a server's programs into the folder, unless they are there already, and returns where they are. An empty
// repository means the library's own.
func fetch(ctx context.Context, folder, repository string) (string, error) {
	root := filepath.Join(folder, "postgres-"+string(fetchVersion))
	if bin := filepath.Join(root, "bin"); fetched(bin) {
		return bin, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(folder, "fetch-")
	if err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { // the library takes no context
		err := fetchInto(root, scratch, repository)
		done <- errors.Join(err, os.RemoveAll(scratch))
	}()
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-done:
	}
	if err != nil {
		return "", fmt.Errorf("download Postgres: %w", err)
	}
	return filepath.Join(root, "bin"), nil
}

// fetchInto puts all of the programs at root, or nothing, even if others do the same at the same time.
func fetchInto(root, scratch, repository string) error {
	unpacked, data := filepath.Join(scratch, "unpacked"), filepath.Join(scratch, "data")
	// The library downloads only when it starts a server, which it cannot as root. So we give it a data folder that looks
	// finished but is not: it downloads, fails to start, and leaves the programs we want.
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	major, _, _ := strings.Cut(string(fetchVersion), ".")
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
		return err
	}
	config := embeddedpostgres.DefaultConfig().Version(fetchVersion).Logger(io.Discard).Port(0).
		CachePath(filepath.Join(scratch, "download")).RuntimePath(filepath.Join(scratch, "run")).
		DataPath(data).BinariesPath(unpacked)
	if repository != "" {
		config = config.BinaryRepositoryURL(repository)
	}
	err := embeddedpostgres.NewDatabase(config).Start()
	if !fetched(filepath.Join(unpacked, "bin")) {
		return err
	}
	if err := os.Rename(unpacked, root); err != nil && !fetched(filepath.Join(root, "bin")) {
		return err
	}
	return nil
}

func fetched(bin string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(bin, program)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}
