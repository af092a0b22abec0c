package postgres

import (
	"archive/zip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFindBinaries(t *testing.T) {
	root := openDir(t)
	debian := installed
	t.Cleanup(func() { installed = debian })
	installed = []string{filepath.Join(root, "lib/*/bin")}
	t.Setenv("PATH", filepath.Join(root, "path"))
	t.Setenv(binVariable, "")
	account, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	find := func() string {
		dir, err := findBinaries(t.Context(), "", account)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(dir, root+"/")
	}
	// Each step adds what must win over all before it.
	programs(t, filepath.Join(root, "lib/9.6/bin"), "initdb", "postgres")
	programs(t, filepath.Join(root, "lib/17/bin"), "initdb") // half an installation
	if got := find(); got != "lib/9.6/bin" {
		t.Errorf("found %s, want the only whole one", got)
	}
	programs(t, filepath.Join(root, "lib/15/bin"), "initdb", "postgres")
	if got := find(); got != "lib/15/bin" {
		t.Errorf("found %s, want the newest", got)
	}
	programs(t, filepath.Join(root, "config/bin"), "initdb", "postgres")
	script(t, filepath.Join(root, "path/pg_config"), "echo "+filepath.Join(root, "config/bin"))
	if got := find(); got != "config/bin" {
		t.Errorf("found %s, want pg_config's", got)
	}
	programs(t, filepath.Join(root, "path"), "initdb", "postgres")
	if got := find(); got != "path" {
		t.Errorf("found %s, want the one in PATH", got)
	}
	programs(t, filepath.Join(root, "named"), "initdb", "postgres")
	t.Setenv(binVariable, filepath.Join(root, "named"))
	if got := find(); got != "named" {
		t.Errorf("found %s, want the one named by %s", got, binVariable)
	}
	t.Setenv(binVariable, root)
	if dir, err := findBinaries(t.Context(), "", account); err == nil {
		t.Errorf("found %s although the named folder has no server", dir)
	}
}

func TestFetch(t *testing.T) {
	requests := 0
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests++; !strings.HasSuffix(r.URL.Path, ".jar") {
			http.NotFound(w, r)
			return
		}
		jar := zip.NewWriter(w)
		defer jar.Close()
		file, err := jar.Create("postgres.txz")
		if err == nil {
			var archive []byte
			if archive, err = os.ReadFile("testdata/programs.txz"); err == nil {
				_, err = file.Write(archive)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}))
	defer repository.Close()
	folder := openDir(t)
	var bin string
	for range 2 { // the second finds what the first left
		var err error
		if bin, err = fetch(t.Context(), folder, repository.URL); err != nil {
			t.Fatal(err)
		}
	}
	if requests != 2 {
		t.Errorf("%d requests, want one for the archive and one for its checksum", requests)
	}
	if err := usable(t.Context(), bin, nil); err != nil {
		t.Errorf("the fetched programs do not run: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(folder, "fetch-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFetchSaysWhyItFailed(t *testing.T) {
	repository := httptest.NewServer(http.NotFoundHandler())
	defer repository.Close()
	folder := openDir(t)
	if _, err := fetch(t.Context(), folder, repository.URL); err == nil || !strings.Contains(err.Error(), "no version found") {
		t.Errorf("fetch = %v, want the library's error", err)
	}
	if left, _ := os.ReadDir(folder); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestChildEnv(t *testing.T) {
	got := childEnv([]string{"PATH=/bin", "PGDATA=/x", "PGPORT=1", "LC_ALL=fr_FR", "LC_TIME=fr_FR", "LANG=fr_FR", "TZ=Asia/Tokyo", "PAGER=less"})
	want := []string{"LC_ALL=C", "TZ=UTC", "PATH=/bin", "PAGER=less"}
	if !slices.Equal(got, want) {
		t.Errorf("childEnv = %v, want %v", got, want)
	}
}

func TestRunFolderKeepsTheSocketShort(t *testing.T) {
	deep := filepath.Join(openDir(t), strings.Repeat("deep/", 20))
	if err := os.MkdirAll(deep, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", deep)
	if got := runFolder(true, nil); !strings.HasPrefix(got, "/tmp/leadgrid-pg-") {
		t.Errorf("runFolder = %s, want one in /tmp", got)
	}
	short := openDir(t)
	t.Setenv("TMPDIR", short)
	if got := runFolder(true, nil); filepath.Dir(got) != short {
		t.Errorf("runFolder = %s, want one in %s", got, short)
	}
}

func TestReachNamesTheClosedFolder(t *testing.T) {
	closed := filepath.Join(openDir(t), "closed")
	if err := os.MkdirAll(filepath.Join(closed, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	stranger := &account{name: "stranger", uid: 12345, gid: 12345}
	err := stranger.reach(closed)
	want := fmt.Sprintf("started by root, Postgres runs as stranger, to whom %s is closed: choose another folder", closed)
	if err == nil || err.Error() != want {
		t.Errorf("reach = %v, want %s", err, want)
	}
	if err := os.Chmod(closed, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := stranger.reach(closed); err != nil {
		t.Errorf("reach = %v after opening it", err)
	}
}

// openDir is a folder that other accounts can enter, unlike t.TempDir under a strict umask.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func programs(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		script(t, filepath.Join(dir, name), "exit 0")
	}
}

func script(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}
