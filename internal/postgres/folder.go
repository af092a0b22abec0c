package postgres

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	memory = "/dev/shm"
	// memoryFree is what must be free in memory to put a server there.
	memoryFree = 2 << 30
	// socketMax is the longest path of a socket that every system takes (macOS: 104 bytes with the final zero).
	socketMax = 103
)

// runFolder names a new folder for a server: in memory if the data need not be durable and there is room, otherwise in the
// system's folder for temporary files. Both only if the socket's path is short enough and the server's account may make it.
func runFolder(durable bool, a *account) string {
	name := "leadgrid-pg-" + strings.ToLower(rand.Text()[:12])
	parents := []string{os.TempDir()}
	if !durable && freeBytes(memory) > memoryFree {
		parents = []string{memory, os.TempDir()}
	}
	for _, parent := range parents {
		folder := filepath.Join(parent, name)
		if len(folder)+len("/.s.PGSQL."+port) <= socketMax && filepath.IsAbs(folder) && a.mayWrite(parent) {
			return folder
		}
	}
	return filepath.Join("/tmp", name)
}

// keptFolder makes the folder that keeps a server's data and returns where the data goes: one level below, so that the
// server's account can make and rename it.
func keptFolder(dir string, a *account) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil && a != nil {
		err = os.Chown(dir, int(a.uid), int(a.gid))
	}
	if err == nil {
		err = a.reach(dir)
	}
	if err != nil {
		return "", fmt.Errorf("make the data folder: %w", err)
	}
	return filepath.Join(dir, "data"), nil
}

// freeBytes is 0 for a folder that does not exist.
func freeBytes(path string) uint64 {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return 0
	}
	return stat.Bavail * uint64(stat.Bsize)
}
