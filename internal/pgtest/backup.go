package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// copyTo copies the running server's files to a folder that does not exist yet, as a backup of the moment that it
// returns. It does what pg_basebackup does, which not every distribution of the server has.
func (s *Server) copyTo(dir string) (err error) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	// The slot ends with the connection. Until then the log that the copy needs is kept.
	for _, sql := range []string{"SELECT pg_create_physical_replication_slot('pgtest', true, true)", "SELECT pg_backup_start('pgtest', true)"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	left := func(path string) bool { // what belongs to the process, and the log, which is copied at the end
		return path == "postmaster.pid" || path == "postmaster.opts" || strings.HasPrefix(path, "pg_wal/") || strings.HasPrefix(path, "pg_replslot/")
	}
	if err := s.copyFiles(dir, ".", left); err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
		return err
	}
	if err := s.copyFiles(dir, "pg_wal", func(string) bool { return false }); err != nil {
		return err
	}
	return s.write(filepath.Join(dir, "backup_label"), strings.NewReader(label))
}

// copyFiles copies a folder of the server's without the files that are left. Files may go while it runs.
func (s *Server) copyFiles(to, folder string, left func(path string) bool) error {
	from := os.DirFS(s.data())
	return fs.WalkDir(from, folder, func(path string, entry fs.DirEntry, err error) error {
		switch gone := errors.Is(err, fs.ErrNotExist); {
		case gone || err == nil && left(path):
			return nil
		case err != nil:
			return err
		case entry.IsDir():
			if err := os.Mkdir(filepath.Join(to, path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			return s.own(filepath.Join(to, path))
		}
		file, err := from.Open(path)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		defer file.Close()
		return s.write(filepath.Join(to, path), file)
	})
}

// write makes a file of the server's.
func (s *Server) write(path string, from io.Reader) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close(), s.own(path))
}

// own gives a file to the user as whom the server runs.
func (s *Server) own(path string) error {
	if s.owner == nil {
		return nil
	}
	return os.Chown(path, int(s.owner.Uid), int(s.owner.Gid))
}

// Standby makes a streaming standby for whose disk every commit on s waits from now on.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	standby, err := folder(s.bin, s.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.remove)
	if err := s.copyTo(standby.data()); err != nil {
		t.Fatal("copying the server: ", err)
	}
	err = errors.Join(
		standby.write(filepath.Join(standby.data(), "standby.signal"), strings.NewReader("")),
		standby.set("primary_conninfo", s.URL()+"&application_name=standby"),
		standby.Start(), s.Exec("ALTER SYSTEM SET synchronous_standby_names = 'standby'"), s.Exec("SELECT pg_reload_conf()"),
		s.Wait("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"))
	if err != nil {
		t.Fatal(err)
	}
	return standby
}

// set adds a setting to those that ALTER SYSTEM writes.
func (s *Server) set(name, value string) error {
	file, err := os.OpenFile(filepath.Join(s.data(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%s = '%s'\n", name, value)
	return errors.Join(err, file.Close())
}

// Backup makes a backup of the running server, in the place of the one before.
func (s *Server) Backup() error {
	return errors.Join(os.RemoveAll(s.backup()), s.copyTo(s.backup()))
}

// Restore has the server go on from the backup.
func (s *Server) Restore() error {
	s.Stop("immediate")
	return errors.Join(os.RemoveAll(s.data()), os.Rename(s.backup(), s.data()), s.Start())
}

func (s *Server) backup() string { return filepath.Join(s.dir, "backup") }
