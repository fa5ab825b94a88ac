package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMasterKeyFile: a key that somebody else may know, or make meterd write, is refused, and one that others may read is
// made private.
func TestMasterKeyFile(t *testing.T) {
	digits := strings.Repeat("0123456789abcdef", 4) + "\n"
	for _, tt := range []struct {
		name   string
		folder fs.FileMode // of the folder that the file is in
		file   fs.FileMode // 0 for none
		text   string
		link   string // what it is a link to
		made   bool
		mode   fs.FileMode // of the file then
		says   string      // what it is refused with; not if empty
	}{
		{name: "none", folder: 0o755, made: true, mode: 0o600},
		{name: "one's own", folder: 0o755, file: 0o600, text: digits, mode: 0o600},
		{name: "the group's", folder: 0o755, file: 0o640, text: digits, mode: 0o640},
		{name: "read by others", folder: 0o755, file: 0o644, text: digits, mode: 0o640},
		{name: "a container's secret", folder: 0o755, file: 0o444, text: digits, mode: 0o444},
		{name: "written by the group", folder: 0o755, file: 0o660, text: digits, mode: 0o660, says: "can be written by others (mode 0660)"},
		{name: "written by others", folder: 0o755, file: 0o602, text: digits, mode: 0o602, says: "can be written by others (mode 0602)"},
		{name: "left empty", folder: 0o755, file: 0o600, made: true, mode: 0o600},
		{name: "left empty, written by others", folder: 0o755, file: 0o666, mode: 0o666, says: "can be written by others"},
		{name: "everybody's folder", folder: 0o777, says: "everybody may write into"},
		{name: "everybody's folder, there", folder: 0o777, file: 0o600, text: digits, mode: 0o600, says: "everybody may write into"},
		{name: "a folder like /tmp", folder: 0o777 | fs.ModeSticky, made: true, mode: 0o600},
		{name: "a dangling link", folder: 0o755, link: "nothing", says: "is a symbolic link"},
		{name: "a link to a key", folder: 0o755, link: "key", mode: 0o600},
		{name: "no end", folder: 0o755, link: "/dev/zero", says: "is longer than 4096 bytes"},
		{name: "a folder", folder: 0o755, link: ".", says: "is a directory"},
		{name: "something else", folder: 0o755, file: 0o600, text: "a text\n", mode: 0o600, says: "must hold 64 hexadecimal digits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "folder")
			file := filepath.Join(dir, "master.key")
			err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "key"), []byte(digits), 0o600))
			switch {
			case tt.link != "":
				err = errors.Join(err, os.Symlink(tt.link, file))
			case tt.file != 0:
				err = errors.Join(err, os.WriteFile(file, []byte(tt.text), 0o600), os.Chmod(file, tt.file))
			}
			if err := errors.Join(err, os.Chmod(dir, tt.folder)); err != nil {
				t.Fatal(err)
			}
			key, made, err := readOrMakeKey(file)
			switch {
			case tt.says != "":
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v", err)
				}
			case err != nil || len(key) != 32 || made != tt.made:
				t.Errorf("%d bytes, made %t: %v", len(key), made, err)
			}
			if tt.made {
				if again, made, err := readOrMakeKey(file); string(again) != string(key) || made || err != nil {
					t.Errorf("the second time: %t, %v", made, err)
				}
			}
			if info, err := os.Stat(file); tt.mode != 0 && (err != nil || info.Mode() != tt.mode) || tt.mode == 0 && tt.says != "" && tt.link != "/dev/zero" && tt.link != "." && err == nil {
				t.Errorf("the file afterwards: %v, %v; want mode %v", info, err, tt.mode)
			}
		})
	}
}

// TestPeekKey: who only looks changes nothing.
func TestPeekKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "master.key")
	if err := errors.Join(os.WriteFile(file, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600), os.Chmod(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	if key, err := peekKey(file); err != nil || len(key) != 32 {
		t.Errorf("%d bytes, %v", len(key), err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestFilesAreBounded: no file that is read whole may take the machine's memory.
func TestFilesAreBounded(t *testing.T) {
	for name, read := range map[string]func() error{
		"master key": func() error { _, err := readKey("/dev/zero"); return err },
		"admin token": func() error {
			_, err := (&adminCmd{Endpoint: "http://127.0.0.1:1", TokenFile: "/dev/zero"}).client(&console{ctx: t.Context()})
			return err
		},
		"authorities": func() error {
			_, err := (&adminCmd{Endpoint: "http://127.0.0.1:1", CAFile: "/dev/zero"}).client(&console{ctx: t.Context()})
			return err
		},
		"certificate": func() error { _, err := loadCertificate("/dev/zero", "/dev/zero"); return err },
	} {
		if err := read(); err == nil || !strings.Contains(err.Error(), "/dev/zero is longer than") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
