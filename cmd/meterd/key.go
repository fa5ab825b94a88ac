package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/meterd/meterd/internal/store"
)

// Bounds of files that are read whole, far above what such files hold.
const (
	mostKey         = 4 << 10 // a master key, an admin token
	mostCertificate = 1 << 20
)

// readFile reads a file whole, unless it is longer than most bytes. It may be a pipe, or a link.
func readFile(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, most)
}

func readBounded(f *os.File, most int64) ([]byte, error) {
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory, and a file is wanted", f.Name())
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is longer than %d bytes: it must be another file that is meant", f.Name(), most)
	}
	return text, err
}

// loadCertificate is [tls.LoadX509KeyPair] with a bound on the length of the files.
func loadCertificate(cert, key string) (tls.Certificate, error) {
	var texts [2][]byte
	for i, file := range []string{cert, key} {
		var err error
		if texts[i], err = readFile(file, mostCertificate); err != nil {
			return tls.Certificate{}, err
		}
	}
	pair, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		err = fmt.Errorf("%s and %s are no certificate in PEM with its private key: %w", cert, key, err)
	}
	return pair, err
}

// readKey reads the master key. It refuses a file that others may write.
func readKey(file string) ([]byte, error) { return readKeyOf(file, true) }

// peekKey is readKey for commands that only look: it leaves the file as it is, because the file may belong to another
// user's service.
func peekKey(file string) ([]byte, error) { return readKeyOf(file, false) }

func readKeyOf(file string, mend bool) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("master key: %w; name its file with --master-key-file", err)
	}
	defer f.Close()
	if err := keptKey(f, mend); err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	text, err := readBounded(f, mostKey)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	digits := strings.TrimSpace(string(text))
	key, err := hex.DecodeString(digits)
	switch {
	case len(digits) < 64 && strings.Trim(digits, "0123456789abcdef") == "":
		return nil, fmt.Errorf("master key: %s holds %d of 64 hexadecimal digits; it may be the rest of a meterd init that was interrupted: if no ledger was made with it, delete it and run meterd init again, else restore it from its copy", file, len(digits))
	case err != nil || len(key) != 32:
		return nil, fmt.Errorf("master key: %s must hold 64 hexadecimal digits and nothing else", file)
	}
	return key, nil
}

// keptKey refuses a key file that others may write. If others may read it, keptKey makes it private when the file is
// this user's and its owner may write it. A file that nobody may write stays as it is: secrets are given to
// containers in this way, perhaps of other users.
func keptKey(f *os.File, mend bool) error {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	mode := info.Mode().Perm()
	if mode&0o022 != 0 {
		return fmt.Errorf("%s can be written by others (mode %04o), who may know what it holds; make a new key, or if nobody has touched this one: chmod 600 %[1]s", f.Name(), mode)
	}
	if mend && mode&0o007 != 0 && mode&0o200 != 0 {
		_ = f.Chmod(mode &^ 0o007) // succeeds only for the owner
	}
	return nil
}

// readOrMakeKey reads the key file. It makes the key if the file is missing or empty, because an init that is killed
// can leave an empty file. The file's lock keeps two processes from making the key at once.
func readOrMakeKey(file string) (key []byte, made bool, err error) {
	if err := keptFolder(file); err != nil {
		return nil, false, fmt.Errorf("master key: %w", err)
	}
	if info, err := os.Stat(file); err == nil && (info.Size() > 0 || !info.Mode().IsRegular()) {
		key, err := readKey(file)
		return key, false, err
	}
	f, err := store.OpenOwn(file, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = store.CreateOwn(file)
		if errors.Is(err, fs.ErrExist) { // another process was quicker
			f, err = store.OpenOwn(file, os.O_RDWR)
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("master key: %w", err)
	}
	defer f.Close()
	if err := store.Lock(f); err != nil {
		return nil, false, fmt.Errorf("master key: locking %s: %w", file, err)
	}
	if info, err := f.Stat(); err != nil || info.Size() > 0 { // another process was quicker
		if err == nil {
			key, err = readKey(file)
		}
		return key, false, err
	}
	if err := keptKey(f, true); err != nil {
		return nil, false, fmt.Errorf("master key: %w", err)
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, false, err
	}
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Sync()); err == nil {
		err = store.SyncDir(filepath.Dir(file))
	}
	if err != nil {
		return nil, false, fmt.Errorf("master key: %w", errors.Join(err, f.Truncate(0)))
	}
	return key, true, nil
}

// keptFolder refuses a folder into which everybody may put a key file. In one like /tmp they can only do so before.
func keptFolder(file string) error {
	dir := filepath.Dir(file)
	info, err := os.Stat(dir)
	if err != nil || info.Mode()&0o002 == 0 {
		return err
	}
	if there, err := os.Lstat(file); info.Mode()&fs.ModeSticky != 0 && (errors.Is(err, fs.ErrNotExist) || err == nil && store.Mine(there)) {
		return nil
	}
	return fmt.Errorf("everybody may write into %s (mode %04o) and put a key of theirs there; choose a place for %s where only you may", dir, info.Mode().Perm(), filepath.Base(file))
}
