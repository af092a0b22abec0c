package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the account the server runs as. Postgres refuses to run as root.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount returns nil for an ordinary user, whose own account the server runs as.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		entry, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(entry.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(entry.Gid, 10, 32)
		if errUID != nil || errGID != nil {
			continue
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("Postgres does not run as root, and there is neither a user postgres nor nobody to run it as")
}

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// reach fails if the account cannot enter the folder because it, or one above it, is closed to others.
func (a *account) reach(dir string) error {
	if a == nil {
		return nil
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != a.uid && info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("started by root, Postgres runs as %s, to whom %s is closed: choose another folder", a.name, dir)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
}

// mayWrite reports whether the account may make a folder in this one, as anybody may in /tmp.
func (a *account) mayWrite(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	if a == nil && info.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid()) {
		return true
	}
	return info.Mode().Perm()&0o003 == 0o003 && a.reach(dir) == nil
}
