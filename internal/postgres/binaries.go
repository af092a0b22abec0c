package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// binVariable is the environment variable that names the folder of the server's programs.
const binVariable = "POSTGRES_BIN"

// installed are the folders where packages put the server's programs outside PATH: Debian, Red Hat's of the Postgres
// project, Homebrew on either processor, Postgres.app.
var installed = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// findBinaries returns a folder with an initdb and a postgres that the account can run.
func findBinaries(ctx context.Context, setting string, a *account) (string, error) {
	if setting == "" {
		setting = os.Getenv(binVariable)
	}
	if setting != "" {
		if err := usable(ctx, setting, a); err != nil {
			return "", fmt.Errorf("no Postgres server in %s: %w", setting, err)
		}
		return filepath.Abs(setting)
	}
	for _, dir := range candidates(ctx) {
		if usable(ctx, dir, a) == nil {
			return dir, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return "", err // a cancelled search that found nothing proves nothing
	}
	dir, err := fetch(ctx, fetchFolder(), "")
	if err == nil {
		err = usable(ctx, dir, a)
	}
	if err != nil {
		return "", fmt.Errorf("this machine has no Postgres server, and none could be downloaded (%w): install one"+
			" (Debian: apt-get install postgresql) or name the folder of its programs in %s", err, binVariable)
	}
	return dir, nil
}

// candidates are the folders to look in, best first.
func candidates(ctx context.Context) []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range installed {
		found, _ := filepath.Glob(pattern) // the only error is a bad pattern
		slices.SortStableFunc(found, func(a, b string) int { return version(b) - version(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// version is the major version in a folder's name, 0 if there is none: "9.6" is older than "15".
func version(dir string) int {
	n, _ := strconv.Atoi(digits.FindString(dir))
	return n
}

// usable runs both programs: a pg_config may come without a server (libpq-dev), and the account may not run what root can.
func usable(ctx context.Context, dir string, a *account) error {
	for _, program := range []string{"initdb", "postgres"} {
		cmd := exec.CommandContext(ctx, filepath.Join(dir, program), "--version")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential()}
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}
